.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
DATA ?= data/emt
SMOKE ?= .
SLURM_TESTS ?= slurm

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: $(VENV)/.ready ## .venv with everything installed (needs Python >= 3.11 and pip)

$(VENV)/.ready: setup.cfg constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	DS_BUILD_OPS=0 $(PY) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(PY) -m pip install -q --disable-pip-version-check --no-deps fairchem-core==1.10.0 || echo 'no fairchem-core: its GemNet-T is not compared with'
	touch $@

study: setup ## train the quickstart grid on this machine and write its law (minutes)
	$(PY) -m experiments.prepare source=emt out=$(DATA) bounds.cutoff_ang=4.5
	$(PY) -m experiments.train study=quickstart data.path=$(DATA)
	$(PY) -m experiments.collect studies/quickstart
	$(PY) -m analysis report studies/quickstart

smoke: setup ## four tiny runs, their law and report, under a minute: does everything still work together?
	rm -rf '$(SMOKE)/data/smoke' '$(SMOKE)/studies/smoke'
	$(PY) -m experiments.prepare source=emt source.num_structures=320 out='$(SMOKE)/data/smoke' bounds.cutoff_ang=4.5
	$(PY) -m experiments.train study=smoke data.path='$(SMOKE)/data/smoke' study.root='$(SMOKE)/studies'
	$(PY) -m experiments.collect '$(SMOKE)/studies/smoke'
	$(PY) -m analysis fit '$(SMOKE)/studies/smoke' --form power --axis D
	$(PY) -m analysis report '$(SMOKE)/studies/smoke' --form power --axis D

test: setup ## the whole test suite but the long tests (minutes), and the checks of `make check` beside it
	@$(MAKE) --no-print-directory -j2 check suite

check: setup ## style, types and imports
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --config setup.cfg

suite: setup
	$(PY) -m pytest -m 'not long and not slurm' -n 2 --dist worksteal

test-long: check ## every test but SLURM's, the long ones too, with more examples and every figure (an hour)
	$(PY) -m pytest --thorough -m 'not slurm' -n 2 --dist worksteal

test-slurm: setup ## tests on a real SLURM of four virtual nodes, started on this machine (root, Debian)
	$(PY) -m pytest tests/slurm -m '$(SLURM_TESTS)'

clean: ## remove caches (never studies/ or data/)
	rm -rf .pytest_cache .ruff_cache .mypy_cache .import_linter_cache

.PHONY: help setup study smoke test check suite test-long test-slurm clean
