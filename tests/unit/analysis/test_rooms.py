"""What a room of analysis exports: names that are there, and that hide no module."""

import importlib
import pkgutil

import pytest


@pytest.mark.parametrize("name", ["forms", "fitting", "selection", "compute", "design"])
def test_exported_names_exist_and_hide_no_module(name):
    room = importlib.import_module(f"analysis.{name}")
    assert room.__all__
    assert all(hasattr(room, exported) for exported in room.__all__)
    assert not set(room.__all__) & {module.name for module in pkgutil.iter_modules(room.__path__)}
