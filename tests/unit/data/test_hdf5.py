"""HDF5 files from elsewhere: no way to other files, no sizes beyond what is stored, tasks of bounded size."""

import h5py
import numpy as np
import pytest

from scaling.data.formats.hdf5 import CONFORMERS_PER_TASK, MALFORMED_HDF5, Hdf5File, portions, read_conformers
from scaling.errors import DataError


@pytest.fixture
def secret(tmp_path):
    """A file that the other must not lead to."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["group/data"] = np.arange(4.0)
    (tmp_path / "raw.bin").write_bytes(np.arange(4.0).tobytes())
    return tmp_path / "secret.h5"


def link_outside(file, secret):
    file["group/data"] = h5py.ExternalLink(str(secret), "/group/data")


def link_inside(file, _):
    file["real"] = np.arange(4.0)
    file["group/data"] = h5py.SoftLink("/real")


def map_outside(file, secret):
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource(str(secret), "group/data", (4,))
    file.create_virtual_dataset("group/data", layout)


def keep_outside(file, secret):
    file.create_dataset("group/data", (4,), "f8", external=[(str(secret.parent / "raw.bin"), 0, 32)])


@pytest.mark.parametrize("lead", [link_outside, link_inside, map_outside, keep_outside])
def test_data_that_lie_elsewhere_are_refused(lead, secret, tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_group("group")
        lead(file, secret)
        np.testing.assert_array_equal(file["group/data"][()], np.arange(4.0))  # so it would be read
    with Hdf5File(path) as file, pytest.raises(DataError, match=r"a\.h5: .*(not followed|not read)"):
        file.dataset(file.group("group"), "data", "f")


@pytest.mark.parametrize(
    "link", [h5py.ExternalLink("secret.h5", "/group"), h5py.SoftLink("/real"), h5py.SoftLink("/x")]
)
def test_groups_that_lie_elsewhere_are_refused(link, secret, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("real")
        file["group"] = link
    with Hdf5File(tmp_path / "a.h5") as file:
        with pytest.raises(DataError, match="not followed"):
            file.group("group")
        with pytest.raises(DataError, match="not followed"):
            list(file.subgroups(file.group()))


def declared(**options):
    def write(group):
        group.create_dataset("data", **options)

    return write


def written(values, **options):
    def write(group):
        group.create_dataset("data", data=values, **options)

    return write


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (declared(shape=(10**12, 3), dtype="f8", chunks=(1000, 3)), "declares 24000000000000 bytes"),
        (declared(shape=(2**62, 4), dtype="f8", chunks=(1000, 4)), "declares"),
        (declared(shape=(1000, 3), dtype="f8"), "0 are stored"),
        (declared(shape=(10**6, 3), dtype="f8", chunks=(10**6, 3)), "0 are stored"),
        (written(np.zeros(9 * 2**20), chunks=(9 * 2**20,), compression="gzip"), "chunks of 75497472"),
        (written(np.zeros(100), chunks=(100,), scaleoffset=4), "filters"),
        (written(np.array([b"a", b"bc"], dtype=object), dtype=h5py.string_dtype()), "type object"),
        (written(np.array([np.ones(2), np.ones(3)], dtype=object), dtype=h5py.vlen_dtype("f8")), "type object"),
        (written(np.zeros(2, "f8,i4")), "type"),
        (written(np.array([b"1.0"])), "type"),
        (written(np.arange(3)), "type int64"),
        (written(h5py.Empty("f8")), "type float64"),
        (lambda group: group.create_group("data"), "not a data set"),
        (lambda group: None, "no data"),
    ],
)
def test_data_of_wrong_type_or_absurd_size_are_malformed(write, reason, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file)
    with Hdf5File(tmp_path / "a.h5") as file, pytest.raises(MALFORMED_HDF5, match=reason):
        file.dataset(file.group(), "data", "f")


@pytest.mark.parametrize(
    "options", [{}, {"compression": "gzip", "shuffle": True, "fletcher32": True}, {"compression": "lzf"}]
)
def test_honest_data_are_read(options, tmp_path):
    zeros = np.zeros((3000, 3))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a/data", data=zeros, **options)
    with Hdf5File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file.values(file.group("a"), "data", "f"), zeros)


def test_more_values_than_atoms_can_have_are_malformed(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.zeros((10_001, 3))
        file["text"] = np.array([b"x" * 10_000_000] * 7)
    with Hdf5File(tmp_path / "a.h5") as file:
        for name in ("data", "text"):
            with pytest.raises(ValueError, match=f"{name} has shape"):
                file.values(file.group(), name, "fS")


def test_names_that_are_not_text_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group(b"a\xff")
    with Hdf5File(tmp_path / "a.h5") as file, pytest.raises(DataError, match="not plain text"):
        file.names(file.group())


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n" + bytes(5000)])
def test_other_file_is_refused_by_name(content, tmp_path):
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.h5 is not a whole HDF5 file"):
        Hdf5File(tmp_path / "a.h5")


def test_truncated_file_is_refused_by_name(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.arange(1000.0)
    content = (tmp_path / "a.h5").read_bytes()
    for length in (10, 1000, len(content) - 1):
        (tmp_path / "a.h5").write_bytes(content[:length])
        with pytest.raises(DataError, match=r"a\.h5 is not a whole HDF5 file"):
            Hdf5File(tmp_path / "a.h5")


def test_portions_cover_each_row_once_in_tasks_of_bounded_size():
    rng = np.random.default_rng(0)
    groups = [(f"g{k}", int(n)) for k, n in enumerate(rng.choice([0, 1, 8, 511, 512, 513, 5000], 200))]
    tasks = list(portions(groups))
    rows = {name: [] for name, _ in groups}
    for task in tasks:
        assert 0 < sum(max(stop - start, 1) for _, start, stop in task) <= CONFORMERS_PER_TASK
        for name, start, stop in task:
            rows[name].extend(range(start, stop) or ["unknown"])
    assert rows == {name: list(range(total)) or ["unknown"] for name, total in groups}
    assert len(tasks) <= 1 + sum(max(total, 1) for _, total in groups) / CONFORMERS_PER_TASK
    assert list(portions([])) == []


@pytest.mark.parametrize(
    ("energies", "positions", "forces"),
    [
        ((4,), (4, 3, 3), (4, 2, 3)),
        ((4,), (4, 2, 3), (4, 3, 3)),
        ((4,), (4, 3, 3), (3, 3, 3)),
        ((3,), (4, 3, 3), (4, 3, 3)),
        ((4, 1), (4, 3, 3), (4, 3, 3)),
        ((4,), (4, 9), (4, 9)),
        ((4,), (4, 3, 2), (4, 3, 3)),
    ],
)
def test_shapes_that_do_not_belong_together_are_malformed(energies, positions, forces, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = [
            file.create_dataset(name, data=np.zeros(shape))
            for name, shape in zip("epf", (energies, positions, forces), strict=True)
        ]
        with pytest.raises(ValueError, match="shape"):
            read_conformers(np.array([1, 1, 1]), 0, 4, *data)
