"""A run is named by what it computes: new keys rename nothing, and runs of earlier versions are found again."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from scaling.config import BudgetConfig, DataConfig, RunConfig, read_config
from scaling.models import FAMILIES, family
from scaling.runs import identity
from scaling.runs.files import read_json
from scaling.runs.former import former_digest
from scaling.runs.identity import Known, computation, digest, run_id, settings, unchanged
from scaling.runs.store import RunDir

BASE = RunConfig()
DATA_DIGEST = "d43f91db42776f0ac4cc28bb03a3585d1a17016e0d4b0c1ed02b9c6e5af1fb12"
#: config.yaml of runs that commit 885d539 made, under the names that it gave them.
FORMER = sorted(Path(__file__).with_name("former").glob("*.yaml"))


def test_defaults_stay_out_of_the_digest_and_the_digest_stays_the_same():
    """The digests are those of the first version that left defaults out: another one renames everybody's runs."""
    assert computation(BASE, "d") == {"version": 3, "data_digest": "d"}
    changed = replace(BASE, seed=2, train=replace(BASE.train, budget=BudgetConfig("epochs", 3)))
    assert (digest(BASE, "d"), digest(changed, "d")) == ("2b492db3f5", "d49f9b0473")


def test_what_stays_out_of_the_digest_is_what_it_has_always_been():
    """A default that has changed makes old runs answer for new ones: its former value belongs into FORMER_DEFAULTS.

    defaults.json gets a line for a new key, and no line of it ever changes.
    """
    pinned = json.loads(Path(__file__).with_name("defaults.json").read_text())
    assert pinned.keys() == FAMILIES.keys()
    for name, values in pinned.items():
        assert unchanged(replace(BASE, model=family(name)())) == values


def test_changed_default_is_seen(monkeypatch):
    pinned = json.loads(Path(__file__).with_name("defaults.json").read_text())

    @dataclass(frozen=True)
    class Later(RunConfig):
        data: DataConfig = field(default_factory=lambda: DataConfig(cutoff_ang=9.0))

    monkeypatch.setattr(identity, "RunConfig", Later)
    assert unchanged(BASE) != pinned["egnn"]
    monkeypatch.setitem(identity.FORMER_DEFAULTS, "data.cutoff_ang", 5.0)
    monkeypatch.setitem(identity.FORMER_DEFAULTS, "model.num_radial (gemnet_t)", 99)
    assert unchanged(BASE) == pinned["egnn"]
    assert unchanged(replace(BASE, model=family("gemnet_t")()))["model.num_radial"] == 99


@dataclass(frozen=True)
class LaterData(DataConfig):
    augment: bool = False


@dataclass(frozen=True)
class LaterRun(RunConfig):
    data: LaterData = field(default_factory=LaterData)


def test_new_key_renames_no_run_until_it_is_set(monkeypatch):
    before = digest(BASE, "d")
    monkeypatch.setattr(identity, "RunConfig", LaterRun)
    assert digest(LaterRun(), "d") == before
    assert digest(LaterRun(data=LaterData(augment=True)), "d") != before


def test_changed_default_renames_the_runs_that_have_it_and_keeps_those_of_the_former_one(monkeypatch):
    @dataclass(frozen=True)
    class Later(RunConfig):
        data: DataConfig = field(default_factory=lambda: DataConfig(cutoff_ang=6.0))

    before = digest(BASE, "d")  # at a cut-off of 5 angstrom, the default
    monkeypatch.setattr(identity, "RunConfig", Later)
    assert digest(BASE, "d") != before, "without the table, another name for the same computation"
    monkeypatch.setitem(identity.FORMER_DEFAULTS, "data.cutoff_ang", 5.0)
    assert digest(BASE, "d") == before
    assert digest(Later(), "d") != before


@pytest.mark.parametrize("path", FORMER, ids=lambda path: path.stem)
def test_run_of_an_earlier_version_is_found_under_its_name(path, tmp_path):
    config = read_config(path)
    (tmp_path / path.stem).mkdir()
    (tmp_path / path.stem / "config.yaml").write_text(path.read_text())
    assert Known(tmp_path).name_of(config, DATA_DIGEST) == path.stem
    assert Known(tmp_path).name_of(replace(config, seed=5), DATA_DIGEST) is None
    assert Known(tmp_path).name_of(config, "other data") is None


def test_earlier_versions_had_no_name_for_what_they_could_not_compute(monkeypatch):
    monkeypatch.setattr(identity, "RunConfig", LaterRun)
    plain, augmented = LaterRun(), LaterRun(data=LaterData(augment=True))
    assert former_digest(settings(plain), unchanged(plain), "d") is not None
    assert former_digest(settings(augmented), unchanged(augmented), "d") is None


def test_readable_part_names_every_swept_key():
    config = replace(BASE, train=replace(BASE.train, batch_size=16))
    name = run_id(config, "d", {"train.batch_size", "data.cutoff_ang", "model.width"})
    assert name == f"egnn-w16-d2-f1-s0-cutoff_ang5-batch_size16-{digest(config, 'd')}"
    assert run_id(config, "d").rpartition("-")[0] == "egnn-w16-d2-f1-s0"


def test_run_is_found_whatever_the_readable_part_of_its_name(tmp_path):
    name = run_id(BASE, "d", {"data.cutoff_ang"})
    RunDir(tmp_path / name).stage(BASE)
    assert Known(tmp_path).name_of(BASE, "d") == name
    assert Known(tmp_path).name_of(replace(BASE, seed=1), "d") is None


def test_renamed_run_is_found_by_its_configuration(tmp_path):
    config = replace(BASE, data=replace(BASE.data, digest="d"))
    RunDir(tmp_path / "my-favourite").stage(config)
    assert Known(tmp_path).name_of(config, "d") == "my-favourite"
    assert Known(tmp_path).name_of(replace(config, seed=1), "d") is None


def test_run_is_found_beside_its_copies_and_what_is_no_run(tmp_path):
    config = replace(BASE, data=replace(BASE.data, digest="d"))
    for name in ("a-copy", run_id(config, "d"), "z-copy"):
        RunDir(tmp_path / name).stage(config)
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "config.yaml").write_text("foo: 1\n")
    assert Known(tmp_path).name_of(config, "d") == run_id(config, "d")


def test_of_copies_alone_the_finished_one_is_the_run(tmp_path):
    config = replace(BASE, data=replace(BASE.data, digest="d"))
    for name in ("a-copy", "b-copy", "c-copy"):
        RunDir(tmp_path / name).stage(config)
    (tmp_path / "b-copy" / "result.json").write_text("{}")
    assert Known(tmp_path).name_of(config, "d") == "b-copy"


def test_recipe_of_an_earlier_study_admits_its_runs_again(tmp_path):
    from scaling.errors import RunError
    from scaling.runs.study import admitted

    former = Path(__file__).with_name("former")
    (tmp_path / "study.json").write_text((former / "study.json").read_text())
    gemnet = read_config(next(former.glob("gemnet_t*.yaml")))
    recipe = admitted(tmp_path, [gemnet], DATA_DIGEST)
    written = read_json(tmp_path / "study.json", dict, remedy="")["common"]
    assert written.keys() <= recipe.common.keys()
    assert {key: value for key, value in written.items() if value is not None}.items() <= recipe.common.items()
    with pytest.raises(RunError, match=r"model\.num_radial \(gemnet_t\) = 16, now it is 5"):
        admitted(tmp_path, [replace(gemnet, model=replace(gemnet.model, num_radial=5))], DATA_DIGEST)
