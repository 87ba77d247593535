"""A trajectory of one molecule through the commands: prepared, split, searched for leaks, trained on."""

import json

import numpy as np
import pytest

from tests.conftest import ROOT, run_command

ETHANOL = ROOT.parent / "shared" / "cases" / "12-one-molecule-cannot-be-split" / "ethanol.xyz"
FRAMES = 200


@pytest.fixture
def prepare(tmp_path):
    """The command, beside a file of frames that each keep most of the displacement of the one before."""
    symbols = "CCOHHHHHH"
    grid = np.stack(np.meshgrid(np.arange(3.0), np.arange(3.0), [0.0]), -1).reshape(-1, 3)
    places, rng = 1.3 * np.random.default_rng(0).permutation(grid), np.random.default_rng(1)
    step, lines = rng.normal(0, 0.05, places.shape), []
    for _ in range(FRAMES):
        step = 0.7 * step + rng.normal(0, 0.035, step.shape)
        lines += [f"{len(symbols)}", f'Properties=species:S:1:pos:R:3:forces:R:3 energy={step[0, 0]:.6f} pbc="F F F"']
        rows = np.hstack([places + step, -step])
        lines += [f"{s} " + " ".join(f"{v:.6f}" for v in row) for s, row in zip(symbols, rows, strict=True)]
    (tmp_path / "ethanol.xyz").write_text("\n".join(lines) + "\n")
    return lambda *overrides: run_command("experiments.prepare", "processes=1", *overrides, cwd=tmp_path)


SOURCE = ("source=extxyz", "source.path=ethanol.xyz")


def train(cwd, data):
    settings = ("model.width=4", "train.budget.amount=10", "data.val_share=0.3")
    return run_command("experiments.train", "study.root=studies", f"data.path={data}", *settings, cwd=cwd)


def test_one_molecule_is_prepared_in_blocks_and_trained_on(prepare, tmp_path):
    made = prepare(*SOURCE, "out=data")
    assert made.returncode == 0, made.stderr
    blocks = json.loads((tmp_path / "data" / "manifest.json").read_text())["blocks"]
    (cut,) = blocks["groups"]
    assert cut["length"] > cut["gap"] >= 1
    said = f"blocks      {blocks['num_blocks']} of {cut['length']} structures, of 1 group(s), gaps of {cut['gap']}"
    assert said in made.stdout
    assert "no group of" not in made.stderr
    found = prepare("leaks=data").stdout
    assert [line.split(",")[0].strip() for line in found.splitlines() if "median" in line] == [
        "by block",
        "by block",
        "by frame",
        "far apart",
    ]
    done = train(tmp_path, "data")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not ETHANOL.is_file(), reason=f"{ETHANOL} is not there")
def test_molecule_of_a_report_is_prepared_in_blocks_and_trained_on(tmp_path):
    def prepare(*overrides):
        source = ("source=extxyz", f"source.path={ETHANOL}")
        return run_command("experiments.prepare", "processes=1", *source, *overrides, cwd=tmp_path)

    made = prepare("out=data")
    assert made.returncode == 0, made.stderr
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert (manifest["num_structures"], manifest["num_groups"], len(manifest["blocks"]["groups"])) == (FRAMES, 1, 1)
    assert "no group of" not in made.stderr
    done = train(tmp_path, "data")
    assert done.returncode == 0, done.stderr
    whole = prepare("source.group_block=0", "out=whole")
    for text in (whole.stderr, train(tmp_path, "whole").stderr):
        assert "only 1 free groups" in text, "the control: not cut, both say that it cannot be split"
        assert "source.group_block=K" in text


def test_whole_molecule_is_told_at_once_that_it_cannot_be_split_and_training_says_the_same(prepare, tmp_path):
    made = prepare(*SOURCE, "source.group_block=0", "out=data")
    assert made.returncode == 0
    done = train(tmp_path, "data")
    assert done.returncode == 2
    for text in (made.stderr, done.stderr):
        for words in ("only 1 free groups", "source.group_block=K", "source.group_key=KEY"):
            assert words in text
    again = prepare(*SOURCE, "out=data")
    assert again.returncode == 3
    assert "give source.group_block=0 to keep it, or choose another out=" in again.stderr
    too_long = prepare(*SOURCE, "source.group_block=150", "out=other")
    assert too_long.returncode == 2
    assert "source.group_block=150 leaves 2 blocks of 200 structures" in too_long.stderr


def test_labels_under_other_names_are_told_with_the_keys_that_the_file_has(prepare, tmp_path):
    path = tmp_path / "ethanol.xyz"
    path.write_text(path.read_text().replace("energy=", "vasp_energy="))
    refused = prepare(*SOURCE, "out=data")
    assert refused.returncode == 3
    for words in ("200 missing energy", "ethanol.xyz#0", "vasp_energy", "source.energy_key", "data.rejected.jsonl"):
        assert words in refused.stderr
    assert len((tmp_path / "data.rejected.jsonl").read_text().splitlines()) == FRAMES
