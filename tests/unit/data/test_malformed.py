"""Files damaged at random, through the whole preparation: named or rejected, never a crash, never kept as nonsense."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Bohr as BOHR
from ase.units import Hartree as HARTREE
from ase.units import invcm as INVCM
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling.data.preparation.pipeline import prepare, verify
from scaling.data.shards import ShardSet
from scaling.data.sources import SOURCES
from scaling.errors import ConfigError, DataError

NUM = 6


def molecules() -> list[dict[str, Any]]:
    """Water in a box, a little different each time."""
    rng = np.random.default_rng(0)
    start = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]]) + 4.0
    return [
        {
            "symbols": ["O", "H", "H"],
            "positions": start + rng.normal(0, 0.05, (3, 3)),
            "cell": np.eye(3) * 8.0,
            "energy": -14.0 + rng.normal(0, 0.1),
            "forces": rng.normal(0, 1, (3, 3)),
        }
        for _ in range(NUM)
    ]


def write_mvl(path: Path) -> None:
    records = [
        {
            "structure": {
                "lattice": {"matrix": m["cell"].tolist()},
                "sites": [
                    {"species": [{"element": s, "occu": 1}], "xyz": x.tolist(), "abc": (x / 8.0).tolist()}
                    for s, x in zip(m["symbols"], m["positions"], strict=True)
                ],
            },
            "num_atoms": 3,
            "outputs": {"energy": m["energy"], "forces": m["forces"].tolist()},
        }
        for m in molecules()
    ]
    path.write_text(json.dumps(records))


def write_jarvis(path: Path) -> None:
    records = [
        {
            "jid": str(k),
            "atoms": {
                "lattice_mat": m["cell"].tolist(),
                "coords": m["positions"].tolist(),
                "elements": m["symbols"],
                "cartesian": True,
            },
            "total_energy": m["energy"] / 3,
            "forces": m["forces"].tolist(),
        }
        for k, m in enumerate(molecules())
    ]
    path.write_text(json.dumps(records))


def write_mptrj(path: Path) -> None:
    write_mvl(path)
    frames = json.loads(path.read_text())
    materials: dict[str, Any] = {}
    for k, frame in enumerate(frames):
        outputs = frame["outputs"]
        entry = {"uncorrected_total_energy": outputs["energy"], "force": outputs["forces"]}
        materials.setdefault(f"mp-{k // 2}", {})[f"mp-{k // 2}-{k}"] = {"structure": frame["structure"], **entry}
    path.write_text(json.dumps(materials))


def atoms_of(molecule: dict[str, Any]) -> Atoms:
    atoms = Atoms(molecule["symbols"], molecule["positions"], cell=molecule["cell"], pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=molecule["energy"], forces=molecule["forces"])
    return atoms


def write_extxyz(path: Path) -> None:
    ase.io.write(path, [atoms_of(m) for m in molecules()], format="extxyz")


def write_ase_db(path: Path) -> None:
    with ase.db.connect(path) as db:
        for m in molecules():
            db.write(atoms_of(m))


def write_ani(path: Path) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("set/water")
        group["species"] = np.array([b"O", b"H", b"H"])
        group["coordinates"] = np.array([m["positions"] for m in molecules()], dtype=np.float32)
        group["energies"] = np.array([m["energy"] for m in molecules()]) / 27.2114
        group["forces"] = np.array([m["forces"] for m in molecules()], dtype=np.float32) / 27.2114


def write_traj(path: Path) -> None:
    ase.io.write(path, [atoms_of(m) for m in molecules()], format="traj")


def write_qm22(path: Path) -> None:
    """Gradients in Hartree/bohr, energies in cm^-1."""
    lines = []
    for m in molecules():
        lines += ["3", f"{m['energy'] / INVCM:.10f}"]
        columns = np.hstack([m["positions"], -m["forces"] / (HARTREE / BOHR)]).tolist()
        lines += [f"{s} {' '.join(f'{x:.9f}' for x in row)}" for s, row in zip(m["symbols"], columns, strict=True)]
    path.write_text("\n".join(lines) + "\n")


def arrays_of() -> dict[str, Any]:
    return {key: np.array([m[key] for m in molecules()]) for key in ("positions", "energy", "forces", "cell")}


def write_npz(path: Path) -> None:
    np.savez(path, z=np.array([8, 1, 1]), e_unit=np.array("eV"), r_unit=np.array("Ang"), **arrays_of())


def write_hdf5(path: Path) -> None:
    units = {"positions": "Ang", "energy": "eV", "forces": "eV/Ang"}
    with h5py.File(path, "w") as file:
        group = file.create_group("water")
        group["atomic_numbers"] = np.array([8, 1, 1])
        for key, values in arrays_of().items():
            if key in units:
                group[key] = values
                group[key].attrs["units"] = units[key]


def write_parquet(path: Path) -> None:
    columns = {key: values.tolist() for key, values in arrays_of().items()}
    columns["atomic_forces"] = columns.pop("forces")
    pq.write_table(pa.table({"atomic_numbers": [[8, 1, 1]] * NUM, **columns}), path)


FORMATS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "mvl": ("data.json", write_mvl),
    "jarvis": ("data.json", write_jarvis),
    "mptrj": ("data.json", write_mptrj),
    "extxyz": ("data.extxyz", write_extxyz),
    "ase_db": ("data.db", write_ase_db),
    "ani": ("data.h5", write_ani),
    "ase": ("data.traj", write_traj),
    "qm22": ("data.xyz", write_qm22),
    "npz": ("data.npz", write_npz),
    "hdf5": ("data.h5", write_hdf5),
    "parquet": ("data.parquet", write_parquet),
}
#: Of water whose zero of energy is that of no real file.
SETTINGS = {"qm22": {"energy_unit": "cm^-1"}}


def prepared(name: str, path: Path, out: Path) -> ShardSet:
    source = SOURCES[name](path=str(path), **SETTINGS.get(name, {}))  # type: ignore[call-arg]
    prepare(source, out, progress=False)
    return ShardSet(out)


@pytest.mark.parametrize("name", FORMATS)
def test_whole_file_is_kept_whole(name, tmp_path):
    file, write = FORMATS[name]
    write(tmp_path / file)
    shards = prepared(name, tmp_path / file, tmp_path / "out")
    assert len(shards) == NUM
    for index, molecule in enumerate(molecules()):
        stored = shards.read(index)
        np.testing.assert_allclose(stored.positions, molecule["positions"], atol=1e-6)
        assert np.abs(stored.forces) == pytest.approx(np.abs(molecule["forces"]), abs=1e-4)
        assert stored.energy == pytest.approx(molecule["energy"], abs=1e-4)


DAMAGE = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1), st.just(b"")),
    st.tuples(st.just("flip"), st.floats(0, 1), st.binary(min_size=1, max_size=4)),
    st.tuples(st.just("insert"), st.floats(0, 1), st.binary(min_size=1, max_size=9)),
    st.tuples(st.just("drop"), st.floats(0, 1), st.binary(min_size=1, max_size=30)),
)


def damaged(content: bytes, damage: tuple[str, float, bytes]) -> bytes:
    kind, share, noise = damage
    place = int(share * (len(content) - 1))
    if kind == "cut":
        return content[:place]
    if kind == "insert":
        return content[:place] + noise + content[place:]
    if kind == "drop":
        return content[:place] + content[place + len(noise) :]
    spoilt = bytes(a ^ (b or 1) for a, b in zip(content[place : place + len(noise)], noise, strict=False))
    return content[:place] + spoilt + content[place + len(spoilt) :]


@pytest.mark.parametrize("name", FORMATS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damages=st.lists(DAMAGE, min_size=1, max_size=3))
def test_damaged_file_is_named_or_rejected_and_what_is_kept_is_sound(name, damages, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    file, write = FORMATS[name]
    write(folder / file)
    content = (folder / file).read_bytes()
    for damage in damages:
        content = damaged(content, damage) or b"\0"
    (folder / file).write_bytes(content)
    try:
        shards = prepared(name, folder / file, folder / "out")
    except (DataError, ConfigError) as error:
        is_named = file in str(error) or "left nothing to prepare" in str(error)
        assert is_named, error  # noqa: PT017 - either outcome is right
        return
    manifest = verify(shards.path)
    assert all(entry.record and entry.reason for entry in manifest.rejected)
    for index in range(len(shards)):
        stored = shards.read(index)
        for values in (stored.positions, stored.forces, stored.cell, stored.energy):
            assert np.isfinite(values).all()
        assert len(stored.numbers) == len(stored.positions) == len(stored.forces) > 0
        assert ((stored.numbers >= 1) & (stored.numbers <= 118)).all()
