"""The schema refuses what cannot be meant, and identity holds what changes a result and nothing else."""

import subprocess
import sys
from dataclasses import replace

import pytest
from omegaconf import OmegaConf

from scaling.config import (
    BudgetConfig,
    DataConfig,
    LauncherConfig,
    RunConfig,
    TrainConfig,
    ZeroConfig,
    read_config,
    result_fields,
    to_yaml,
    validated,
)
from scaling.errors import ConfigError
from scaling.models.config import FAMILIES, family
from scaling.models.gemnet import GemNetTConfig
from scaling.optim.config import OPTIMIZERS, AdamWConfig
from scaling.runs.identity import run_id


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model", "width", 0),
        ("model", "depth", -1),
        ("model", "name", "transformer"),
        ("model", "forces", "magic"),
        ("data", "fraction", 1.5),
        ("data", "fraction", 0.0),
        ("data", "cutoff_ang", -1.0),
        ("optim", "name", "sgdd"),
        ("optim", "lr", 0.0),
        ("optim", "warmup_share", 1.5),
        ("train", "batch_size", 0),
        ("train", "precision", "fp8"),
        ("zero", "stage", 4),
        ("launcher", "ranks", 0),
        ("study", "name", "../escape"),
    ],
)
def test_value_out_of_range_is_refused_by_key_and_value(section, key, value):
    with pytest.raises(ConfigError) as refused:
        validated(OmegaConf.create({section: {key: value}}))
    assert section in str(refused.value)
    assert key in str(refused.value)
    assert str(value) in str(refused.value)


def test_fraction_error_says_what_to_use():
    with pytest.raises(ConfigError, match=r"data\.fraction=1\.5 must be in \(0, 1\]; use 1\.0 for the full set"):
        DataConfig(fraction=1.5)


def test_unknown_key_and_wrong_type_are_refused():
    with pytest.raises(ConfigError, match="wdth"):
        validated(OmegaConf.create({"model": {"wdth": 8}}))
    with pytest.raises(ConfigError, match="'x'"):
        validated(OmegaConf.create({"model": {"width": "x"}}))


FLOATS = ["data.cutoff_ang", "train.force_weight", "optim.weight_decay", "optim.lr_width_exponent"]


@pytest.mark.parametrize("key", FLOATS)
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_number_that_is_not_finite_is_refused_by_its_key(key, value):
    with pytest.raises(ConfigError, match=f"{key}={value} must be"):
        validated(OmegaConf.from_dotlist([f"{key}={value}"]))


def test_config_survives_its_file(tmp_path):
    config = RunConfig(seed=3, train=TrainConfig(budget=BudgetConfig("epochs", 1.5)))
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert read_config(tmp_path / "config.yaml") == config


BASE = RunConfig()


@pytest.mark.parametrize(
    "config",
    [
        replace(BASE, zero=ZeroConfig(stage=2, checkpointing=1)),
        replace(BASE, launcher=LauncherConfig(ranks=4, workers=3)),
        replace(BASE, train=replace(BASE.train, max_edges=100, num_threads=2, checkpoint_every=7)),
        replace(BASE, data=replace(BASE.data, path="/elsewhere", num_workers=2, cache_mb=1)),
        validated(OmegaConf.create({"train": {"budget": {"amount": 2000}}})),
    ],
)
def test_logistics_do_not_rename_a_run(config):
    assert run_id(config, "d") == run_id(BASE, "d")


@pytest.mark.parametrize(
    "config",
    [
        replace(BASE, seed=1),
        replace(BASE, model=replace(BASE.model, forces="direct")),
        replace(BASE, optim=AdamWConfig(lr=0.05)),
        replace(BASE, data=replace(BASE.data, fraction=0.5)),
        replace(BASE, data=replace(BASE.data, split_seed=1)),
        replace(BASE, train=replace(BASE.train, batch_size=16)),
        replace(BASE, train=replace(BASE.train, validate_every=100)),
        replace(BASE, train=replace(BASE.train, precision="bf16")),
        replace(BASE, train=replace(BASE.train, budget=BudgetConfig("steps", 2001))),
    ],
)
def test_whatever_changes_the_result_renames_the_run(config):
    assert run_id(config, "d") != run_id(BASE, "d")


def test_a_size_is_the_same_whether_given_or_by_the_width():
    model = GemNetTConfig(width=16)
    by_width, given, other = (
        run_id(replace(BASE, model=replace(model, **sizes)), "d")
        for sizes in ({}, {"triplet_width": 8, "num_spherical": 7, "node_width": 16}, {"triplet_width": 9})
    )
    assert by_width == given != other


def test_other_data_is_another_run():
    assert run_id(BASE, "d") != run_id(BASE, "e")


def test_learning_rate_follows_width():
    optim = AdamWConfig(lr=0.01, lr_reference_width=16, lr_width_exponent=-0.5)
    assert optim.peak_lr(16) == pytest.approx(0.01)
    assert optim.peak_lr(64) == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("typo", "message"),
    [
        ({"model": {"widht": 8}}, r"model\.widht is not a key; did you mean model\.width\?"),
        ({"train": {"budget": {"xyz": 1}}}, r"train\.budget\.xyz is not a key; allowed: unit, amount"),
        ({"sede": 1}, r"sede is not a key; did you mean seed\?"),
        ({"optim": {"beta3": 1}}, r"optim\.beta3 is not a key; did you mean optim\.beta[12]\?"),
    ],
)
def test_unknown_key_is_named_with_the_nearest_known_one(typo, message):
    with pytest.raises(ConfigError, match=message):
        validated(OmegaConf.create(typo))


def test_width_and_number_of_parameters_exclude_each_other():
    validated(OmegaConf.create({"model": {"num_params": 1e6}}))
    with pytest.raises(ConfigError, match=r"model\.width=8 must be left out where model\.num_params is given"):
        validated(OmegaConf.create({"model": {"num_params": 1e6, "width": 8}}))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "gemnet_t", "num_spherical": 17}, r"model\.num_spherical=17 must be <= 16"),
        ({"name": "gemnet_t", "num_spherical": 0}, r"model\.num_spherical=0 must be >= 1"),
        (
            {"name": "gemnet_t", "triplet_width": -1},
            r"model\.triplet_width=-1 must be >= 0 \(0: it follows from the width",
        ),
        (
            {"num_spherical": 7},
            r"model\.num_spherical=7 must be left out for model\.name=egnn; it is of dimenetpp and gem",
        ),
        ({"name": "gemnet_t", "output_width": 8}, r"model\.output_width=8 must be left out .*; it is of dimenetpp$"),
    ],
)
def test_size_that_a_network_cannot_have_is_refused(model, message):
    with pytest.raises(ConfigError, match=message):
        validated(OmegaConf.create({"model": model}))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_defaults_of_its_own_keys_and_sizes_are_numbers(name, tmp_path):
    config = replace(BASE, model=family(name)(width=12))
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert read_config(tmp_path / "config.yaml") == config
    sized = config.model.sized()
    assert type(sized) is type(config.model)
    assert sized.sized() == sized
    sizes = {key: value for key, value in result_fields(sized).items() if isinstance(value, int)}
    assert min(sizes.values()) >= 1
    assert result_fields(type(config.model)())["name"] == name


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_is_found_by_its_name(name):
    config = validated(OmegaConf.create({"optim": {"name": name, "lr": 0.1}}))
    assert type(config.optim) is OPTIMIZERS[name]
    assert (config.optim.name, config.optim.lr) == (name, 0.1)


#: As runs wrote it that were begun before each family had keys of its own.
OLD_SIZES = "num_spherical: null, triplet_width: {triplet}, output_width: null, node_width: null, bilinear_width: null"


@pytest.mark.parametrize(("name", "triplet"), [("egnn", "null"), ("dimenetpp", "null"), ("gemnet_t", "5")])
def test_file_of_a_run_that_was_begun_with_null_sizes_is_read(name, triplet, tmp_path):
    path = tmp_path / "config.yaml"
    sizes = OLD_SIZES.format(triplet=triplet)
    path.write_text(
        f"model: {{name: {name}, width: 8, depth: 1, num_radial: 6, num_params: null, {sizes}}}\noptim: {{lr: 0.5}}\n"
    )
    expected = family(name)(width=8, depth=1, num_radial=6)
    if triplet != "null":
        expected = replace(expected, triplet_width=int(triplet))
    config = read_config(path)
    assert config == replace(BASE, model=expected, optim=AdamWConfig(lr=0.5))
    path.write_text("model: {name: egnn, node_width: 5}")
    with pytest.raises(ConfigError, match=r"config\.yaml: model\.node_width=5 must be left out"):
        read_config(path)


def test_configurations_are_read_without_torch():
    code = """
import sys
from scaling.config import read_config
from scaling.models.config import FAMILIES, family
assert all(family(name)().sized().training_flops(num_atoms=1, num_edges=1) for name in FAMILIES)
assert "torch" not in sys.modules, "torch was imported"
import scaling.models
scaling.models.build
assert "torch" in sys.modules, "the control"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("value", "remedy"),
    [([4, 8], r"a grid of values is written without brackets"), ("x", "a whole number is wanted")],
)
def test_size_of_the_wrong_type_is_refused_with_the_way_out(value, remedy):
    with pytest.raises(ConfigError, match=rf"^model\.width: Value .*; {remedy}"):
        validated(OmegaConf.create({"model": {"width": value}}))
