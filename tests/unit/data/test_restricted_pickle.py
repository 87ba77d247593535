"""Pickles as data: what is built, and that nothing a pickle asks for is ever run."""

import builtins
import codecs
import collections
import io
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from scaling.data.formats.restricted_pickle import MALFORMED_PICKLE, MAX_STEPS, Inert, loads, to_array
from scaling.errors import DataError


class Calling:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.reduced = (function, args)

    def __reduce__(self):
        return self.reduced


def evil(canary):
    return Calling(os.mkdir, str(canary))


def storage_of(content):
    """A call of torch's reader of storages."""
    return Calling(torch.storage._load_from_bytes, content)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "value", [0, -5, 2**40, -(2**200), 1.5, True, None, "Å", "x" * 300, (1, 2), (1, 2, 3, 4), [1, [2]], {"a": {3: 1}}]
)
def test_plain_values_come_back(value, protocol):
    assert loads(pickle.dumps(value, protocol=protocol), "here") == value


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12.0).reshape(4, 3),
        torch.arange(12.0).reshape(3, 4).T,
        torch.arange(24, dtype=torch.float64).reshape(2, 4, 3)[1, ::2],
        torch.tensor(2.5),
        torch.tensor([1, -2, 3]),
        torch.tensor([True, False]),
        torch.tensor([0.5, 2.0], dtype=torch.float16),
        torch.tensor([1, 255], dtype=torch.uint8),
        torch.zeros(0, 3),
    ],
    ids=lambda tensor: f"{tensor.dtype}{list(tensor.shape)}",
)
def test_tensors_equal_those_of_torch(tensor, protocol):
    array = to_array(loads(pickle.dumps(tensor, protocol=protocol), "here"))
    assert array.dtype == tensor.numpy().dtype
    np.testing.assert_array_equal(array, tensor.numpy())


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(4, dtype=">i4"),
        np.float64(-3.25),
        np.float32(0.5),
        np.zeros((0, 3)),
        np.array(7),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)
def test_arrays_equal_those_of_numpy(array, protocol):
    content = pickle.dumps(array, protocol=protocol)
    for core in (b"numpy._core", b"numpy.core"):  # the name before numpy 2; in protocol 4 its length is written too
        old = content.replace(b"\x8c\x16numpy._core", b"\x8c\x15numpy.core").replace(
            b"\x8c\x13numpy._core", b"\x8c\x12numpy.core"
        )
        old = old.replace(b"numpy._core", b"numpy.core") if protocol == 2 else old
        value = to_array(loads(content if core == b"numpy._core" else old, "here"))
        assert value.dtype == array.dtype
        np.testing.assert_array_equal(value, array)


def test_objects_of_torch_geometric_become_inert():
    found = loads(pickle.dumps(Data(y=2.0)), "here")
    assert type(found) is Inert
    assert found.state["_store"].state["_mapping"]["y"] == 2.0


def test_caches_of_torch_geometric_do_no_harm():
    data = Data(pos=torch.zeros(2, 3), y=2.0)
    data.node_attrs()  # fills a cache that is pickled too
    for protocol in (2, 5):
        mapping = loads(pickle.dumps(data, protocol=protocol), "here").state["_store"].state["_mapping"]
        assert mapping["y"] == 2.0


def hostile_values(canary):
    """By name: objects whose pickles make the directory `canary`, or would let something else be called."""
    hooks = collections.OrderedDict()
    return {
        "os": evil(canary),
        "eval": Calling(eval, f"__import__('os').mkdir({str(canary)!r})"),
        "exec": Calling(exec, f"__import__('os').mkdir({str(canary)!r})"),
        "within data": Data(y=evil(canary)),
        "within a list": [1, {"y": (evil(canary),)}],
        "as a tensor's storage": Calling(torch._utils._rebuild_tensor_v2, evil(canary), 0, (1,), (1,), False, hooks),
        "within a storage": storage_of(pickle.dumps(evil(canary))),
        "as the state of an array": Calling(np.frombuffer, evil(canary)),
        "getattr": Calling(getattr, Calling(__import__, "os"), "mkdir"),
        "import": Calling(__import__, "antigravity"),
    }


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", hostile_values("canary"))
def test_hostile_pickle_is_refused_and_not_run(name, protocol, tmp_path):
    content = pickle.dumps(hostile_values(tmp_path / "canary")[name], protocol=protocol)
    with pytest.raises(DataError, match=r"^x\.lmdb#3: the pickle names '(posix|builtins|__builtin__|numpy)[.]"):
        loads(content, "x.lmdb#3")
    assert not (tmp_path / "canary").exists()


def test_hostile_pickle_would_have_run(tmp_path):
    pickle.loads(pickle.dumps(hostile_values(tmp_path / "canary")["within a list"]))
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(ios\nsystem\n.",
        b"c__builtin__\neval\n.",
        b"ctorch.storage\nos.system\n.",
        b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.",
        b"ctorch\nload\n.",
        b"cnumpy\nload\n.",
        b"ccollections\nOrderedDict.__reduce__\n.",
    ],
)
def test_other_names_are_refused(content):
    with pytest.raises(DataError, match=r"here: the pickle names"):
        loads(content, "here")


def _named(name, protocol_4=False):
    module, _, last = name.rpartition(".")
    if protocol_4:
        return b"\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(last)]) + last.encode() + b"\x93"
    return f"c{module}\n{last}\n".encode()


def _text(text):
    return b"X" + struct.pack("<I", len(text)) + text.encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"\x80\x04",
        b"}",
        b"garbage",
        b"\x80\x04K\x01",
        b"\x80\x04\x86.",
        b"K\x01K\x01b.",
        b"\x82\x01.",  # an extension code
        b"Pfile\n.",
        b"(S'true'\nios\nsystem\n.",
        b"K\x01]R.",
        b"]R.",
        b"tR.",
        b"0.",
        b"h\x05.",
        b"u.",
        b"}(K\x01u.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx.",  # bytes of absurd length
        b"B\xff\xff\xff\x7fx.",
        b"]" * 10 + b"s.",
        _named("collections.OrderedDict") + _text("__setstate__") + b"b.",
        _named("torch._utils._rebuild_tensor_v2") + b"}b.",
        _named("torch_geometric.data.data.Data") + b"K\x01R.",
        _named("torch._utils._rebuild_tensor_v2") + b")R.",
        _named("torch.storage._load_from_bytes") + b"(" + _text("text") + b"tR.",
        _named("torch.storage._load_from_bytes", protocol_4=True) + b"C\x01.\x85R.",
        _named("_codecs.encode") + _text("hello") + _text("rot13") + b"\x86R.",
        _named("_codecs.encode") + b"]" + _text("latin1") + b"\x86R.",
    ],
)
def test_broken_pickle_is_malformed(content):
    with pytest.raises(MALFORMED_PICKLE):
        loads(content, "here")


def test_every_cut_of_a_pickle_is_malformed():
    content = pickle.dumps(Data(pos=torch.ones(2, 3), y=1.0))
    for length in range(len(content)):
        with pytest.raises(MALFORMED_PICKLE):
            loads(content[:length], "here")


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"]" + b"0]" * MAX_STEPS + b".", "not known"),
        (b"K\x01" * (MAX_STEPS + 1) + b".", "more than"),
        (b")" + b"\x85" * 90_000 + b"}" + b"K\x01K\x02s" + b".", None),
        (b"})" + b"\x85" * 90_000 + b"K\x01s.", "as a key"),  # hashing it would end the process
        (b"K\x01r\xff\xff\xff\xff.", None),  # a memo of four billion places
        (
            _text("x" * 1000)
            + b"q\x00"
            + b"]"
            + (_named("_codecs.encode") + b"h\x00" + _text("latin1") + b"\x86Ra") * 50
            + b".",
            "more of them",
        ),
        (b"]q\x00h\x00a.", None),  # a list within itself
    ],
    ids=["unknown", "steps", "deep", "deep key", "memo", "bytes", "cycle"],
)
def test_costly_pickle_ends_soon(content, reason):
    if reason is None:
        loads(content, "here")
    else:
        with pytest.raises(MALFORMED_PICKLE, match=reason):
            loads(content, "here")


@pytest.mark.timeout(20)
def test_lists_that_share_lists_are_not_numbers():
    content = b"]q\x00" + b"".join(
        b"](" + b"h" + bytes([k]) + b"h" + bytes([k]) + b"eq" + bytes([k + 1]) for k in range(60)
    )
    with pytest.raises(TypeError, match="nested list"):
        to_array(loads(content + b".", "here"))


@pytest.mark.parametrize(
    "value", ["text", None, {"a": 1}, [[1.0]], [None], ["1"], Inert("numpy.dtype"), 10**30, b"12345678"]
)
def test_other_things_are_not_numbers(value):
    with pytest.raises(MALFORMED_PICKLE):
        to_array(value)


@pytest.mark.parametrize(
    "array",
    [
        np.array([1, "a"], dtype=object),
        np.array(["a"]),
        np.zeros(2, "f8,i4"),
        np.zeros(2, complex),
        np.zeros(2, "M8[s]"),
    ],
)
def test_arrays_of_other_things_are_not_numbers(array):
    with pytest.raises(MALFORMED_PICKLE):
        to_array(loads(pickle.dumps(array), "here"))


def rebuilt(size, stride, offset=0, storage=None):
    storage = torch.arange(4.0).untyped_storage() if storage is None else storage
    inner = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    return pickle.dumps(
        Calling(torch._utils._rebuild_tensor_v2, inner, offset, size, stride, False, collections.OrderedDict())
    )


def test_tensor_at_the_end_of_its_storage_is_read():
    np.testing.assert_array_equal(loads(rebuilt((2,), (1,), 2), "here"), [2.0, 3.0])


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((5,), (1,), 0),
        ((2,), (1,), 3),
        ((2,), (4,), 0),
        ((2,), (-1,), 3),
        ((2,), (1,), -1),
        ((-2,), (1,), 0),
        ((10**12,), (0,), 0),  # one number shown a million million times
        ((2**62, 4), (1, 1), 0),
        ((2, 2), (1,), 0),
        ((1.0,), (1,), 0),
        ((True,), (1,), 0),
        ((1,) * 9, (1,) * 9, 0),
    ],
)
def test_tensor_beyond_its_storage_is_malformed(size, stride, offset):
    with pytest.raises(ValueError, match=r"tensor|sizes"):
        loads(rebuilt(size, stride, offset), "here")


def legacy_storage(
    magic=0x1950A86A20F9469CFC6C,
    protocol=1001,
    little=True,
    count=2,
    stored=None,
    kind="FloatStorage",
    key="0",
    keys=("0",),
    view=None,
):
    out = io.BytesIO()
    for part in (magic, protocol, {"protocol_version": 1001, "little_endian": little, "type_sizes": {"int": 4}}):
        pickle.dump(part, out, protocol=2)

    class Persistent(pickle.Pickler):
        def persistent_id(self, value):
            return value if isinstance(value, tuple) and value and value[0] == "storage" else None

    Persistent(out, protocol=2).dump(("storage", getattr(torch, kind), key, "cuda:0", count, view))
    pickle.dump(list(keys), out, protocol=2)
    out.write(struct.pack("<q", count if stored is None else stored) + struct.pack("<2f", 1.5, -2.0))
    return pickle.dumps(storage_of(out.getvalue()))


def test_storage_is_read_wherever_it_lived():
    np.testing.assert_array_equal(loads(legacy_storage(), "here"), [1.5, -2.0])


@pytest.mark.parametrize(
    "changes",
    [
        {"magic": 1},
        {"protocol": 1002},
        {"little": False},
        {"count": 3},
        {"count": 2**60},
        {"count": -1},
        {"stored": 1},
        {"keys": ("1",)},
        {"keys": ("0", "1")},
        {"key": 0, "keys": (0,)},
        {"kind": "DoubleStorage"},
        {"view": ("1", 0, 1)},
    ],
)
def test_other_storages_are_malformed(changes):
    with pytest.raises(MALFORMED_PICKLE):
        loads(legacy_storage(**changes), "here")


def test_storage_of_another_type_is_refused_by_name():
    with pytest.raises(DataError, match=r"torch\.ComplexFloatStorage"):
        loads(legacy_storage(kind="ComplexFloatStorage"), "here")


def test_random_damage_never_does_more_than_raise(monkeypatch):
    """Whatever bytes are changed: a value, a malformed pickle, or a refusal; and no import, no eval."""
    codecs.lookup("raw-unicode-escape")  # which pickletools decodes with
    content = pickle.dumps(Data(pos=torch.ones(3, 3), y=np.float64(1.0), sid=3, z=np.arange(3)))

    def forbidden(*args, **kwargs):
        raise AssertionError("something was called")

    rng = np.random.default_rng(0)
    outcomes = collections.Counter()
    for name in ("eval", "exec"):
        monkeypatch.setattr(builtins, name, forbidden)
    for _ in range(2000):
        damaged = bytearray(content)
        for place in rng.integers(len(damaged), size=rng.integers(1, 6)):
            damaged[place] = rng.integers(256)
        try:
            fields = loads(bytes(damaged), "here")
            for value in fields.state["_store"].state["_mapping"].values():
                to_array(value)
            outcomes["read"] += 1
        except DataError:
            outcomes["refused"] += 1
        except MALFORMED_PICKLE:
            outcomes["malformed"] += 1
    assert min(outcomes.values()) > 0
    assert len(outcomes) == 3
