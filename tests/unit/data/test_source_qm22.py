"""QM-22: gradients become forces, the unit of energies is what a file shows, and frames keep their order."""

import itertools
import zipfile
from dataclasses import replace
from pathlib import Path

import ase.units as u
import numpy as np
import pytest

from scaling.data.manifest import Rejected
from scaling.data.preparation.consistency import MIN_PAIRS, measure, sums, warning, work
from scaling.data.preparation.pipeline import prepare
from scaling.data.shards import ShardSet
from scaling.data.sources.mixed import Mixed
from scaling.data.sources.qm22 import Qm22
from scaling.errors import ConfigError, DataError
from scaling.structure import Structure

QM22 = Path(__file__).parents[4] / "shared" / "data" / "atoms" / "qm22"
#: Atoms and frames, as the README beside the files counts them, unit, and pairs of near frames in the first task.
PUBLISHED = {
    "Methane.zip": (5, 9000, "Hartree", 8809),
    "alkanes/c04.zip": (14, 1292, "cm^-1", 3),
    "alkanes/c10.zip": (32, 2530, "cm^-1", 105),
}


def water(num_frames, offset=-76.4, unit=u.Hartree, seed=0):
    """Frames of a harmonic molecule as QM-22 writes them, and energies (eV) and forces (eV/Ang) of its potential."""
    rng = np.random.default_rng(seed)
    rest = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
    lines, energies, forces = [], [], []
    place = rest.copy()
    for _ in range(num_frames):
        place = rest + 0.9 * (place - rest) + rng.normal(0, 0.02, (3, 3))
        place = place.round(7)
        gradient = 20.0 * (place - rest)
        energies.append(10.0 * np.sum((place - rest) ** 2) + offset * unit)
        forces.append(-gradient)
        lines += ["    3", f"  {energies[-1] / unit:.8f}"]
        in_file = gradient / (u.Hartree / u.Bohr)
        lines += [
            f"{symbol} " + " ".join(f"{x:14.7f}" for x in (*xyz, *g))
            for symbol, xyz, g in zip("OHH", place, in_file, strict=True)
        ]
    return "\n".join(lines) + "\n", energies, forces


def write_zip(path, text, name=None):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name or f"{path.stem}.xyz", text)


def read(path, **settings):
    source = Qm22(path=str(path), **settings)
    return [entry for task in source.tasks() for entry in source.read(task)]


def slope(entries):
    pairs = [work(a, b) for a, b in itertools.pairwise(entries)]
    return measure(sums(np.array([pair for pair in pairs if pair]))).slope


@pytest.mark.parametrize(("unit", "offset"), [(u.Hartree, -76.4), (u.invcm, 0.0)])
def test_zip_and_plain_file_are_read_with_sign_and_unit(unit, offset, tmp_path, monkeypatch):
    monkeypatch.setattr("scaling.data.sources.qm22._TASK_BYTES", 1000)
    text, energies, forces = water(40, offset, unit)
    write_zip(tmp_path / "Water.zip", text)
    (tmp_path / "Water.xyz").write_text(text)
    for name in ("Water.zip", "Water.xyz"):
        entries = read(tmp_path / name)
        assert [entry.record for entry in entries] == [f"{name}#{k}" for k in range(40)]
        np.testing.assert_allclose([entry.energy for entry in entries], energies, atol=1e-8 * unit)
        np.testing.assert_allclose([entry.forces for entry in entries], forces, atol=1e-5)
        assert {entry.group for entry in entries} == {"Water"}
        assert entries[0].numbers.tolist() == [8, 1, 1]
        assert not entries[0].pbc.any()
        assert slope(entries) == pytest.approx(1.0, abs=0.02)


def test_wrong_sign_or_unit_shows_in_the_work_of_the_forces(tmp_path):
    write_zip(tmp_path / "Water.zip", water(40, 0.0, u.invcm)[0])
    right = read(tmp_path / "Water.zip")
    negated = [Structure(**(vars(entry) | {"forces": -entry.forces})) for entry in right]
    assert slope(negated) == pytest.approx(-slope(right))
    assert slope(read(tmp_path / "Water.zip", energy_unit="Hartree")) > 1e5


def test_file_that_does_not_show_its_unit_is_refused_with_the_way_out(tmp_path):
    text = water(1)[0] + water(1, 0.0)[0]
    (tmp_path / "Water.xyz").write_text(text)
    with pytest.raises(DataError, match=r"Water\.xyz .* say source\.energy_unit=Hartree or cm\^-1"):
        read(tmp_path / "Water.xyz")
    assert len(read(tmp_path / "Water.xyz", energy_unit="Hartree")) == 2
    with pytest.raises(ConfigError, match=r"source\.energy_unit=eV must be empty or one of Hartree, cm\^-1"):
        Qm22(energy_unit="eV")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("O ", "Q ", "unknown element"),
        ("  -76.", "  x76.", "malformed record"),
        ("O ", "O 1.0 ", "malformed record"),
        ("H ", "", "malformed record"),
    ],
)
def test_malformed_frame_is_rejected_and_the_rest_is_read(old, new, reason, tmp_path):
    good, bad = water(1)[0], water(1, seed=1)[0].replace(old, new, 1)
    (tmp_path / "Water.xyz").write_text(good + bad + good)
    first, found, last = read(tmp_path / "Water.xyz")
    assert (found.record, found.reason) == ("Water.xyz#1", reason)
    assert isinstance(first, Structure)
    assert isinstance(last, Structure)


def test_cut_frame_is_rejected_and_archive_of_something_else_refused(tmp_path):
    text = water(2)[0]
    (tmp_path / "Water.xyz").write_text(text[:-5])
    assert [isinstance(entry, Rejected) for entry in read(tmp_path / "Water.xyz")] == [False, True]
    write_zip(tmp_path / "a.zip", text, "readme.txt")
    with pytest.raises(DataError, match=r"a\.zip holds 0 \.xyz files"):
        read(tmp_path / "a.zip")
    write_zip(tmp_path / "b.zip", text)
    (tmp_path / "b.zip").write_bytes((tmp_path / "b.zip").read_bytes()[:-30])
    with pytest.raises(DataError, match=r"b\.zip is not a whole zip archive"):
        read(tmp_path / "b.zip")


def test_molecules_of_different_offsets_are_joined_as_parts(tmp_path):
    for name, offset, unit in (("Water", -76.4, u.Hartree), ("c01", 0.0, u.invcm)):
        write_zip(tmp_path / f"{name}.zip", water(30, offset, unit)[0])
        prepare(Qm22(path=str(tmp_path / f"{name}.zip")), tmp_path / name, progress=False)
    prepare(Mixed(paths=[str(tmp_path / "Water"), str(tmp_path / "c01")]), tmp_path / "both", progress=False)
    shards = ShardSet(tmp_path / "both")
    assert [part.name for part in shards.manifest.parts] == ["Water", "c01"]
    means = [np.mean(shards.energy[shards.source == part]) for part in (0, 1)]
    assert means[1] - means[0] == pytest.approx(76.4 * u.Hartree, abs=1.0)


@pytest.mark.skipif(not QM22.exists(), reason=f"needs the published files at {QM22}")
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_molecule_has_the_frames_it_should_and_forces_that_do_its_work(name):
    num_atoms, num_frames, unit, num_pairs = PUBLISHED[name]
    source = Qm22(path=str(QM22 / name))
    tasks = list(source.tasks())
    assert sum(task[4] for task in tasks) == num_frames
    assert {task[2] for task in tasks} == {{"Hartree": u.Hartree, "cm^-1": u.invcm}[unit]}
    entries = list(source.read(tasks[0]))
    assert {len(entry.numbers) for entry in entries} == {num_atoms}
    assert {entry.group for entry in entries} == {Path(name).stem}
    found = measure(sums(np.array([work(a, b) or (0.0, 0.0) for a, b in itertools.pairwise(entries)])))
    assert found.num_pairs == num_pairs
    if num_pairs >= MIN_PAIRS:
        assert found.slope == pytest.approx(1.0, abs=0.05)
        turned = [Structure(**(vars(entry) | {"forces": -entry.forces})) for entry in entries]
        assert slope(turned) == pytest.approx(-found.slope)
        assert "the forces probably are gradients" in warning(replace(found, slope=slope(turned), agreement=-1.0))
