"""Reading pickled PyTorch-Geometric records without running anything that a pickle asks for.

A pickle is a program. This interpreter knows the instructions that build numbers, text, tuples, lists and dicts, and
a short table of names; a name is never looked up anywhere but in this table, no attribute is read or set, nothing is
imported and neither torch nor numpy's own unpickling is called. Tensors become numpy arrays that cannot be written
to; objects of PyTorch-Geometric become `Inert`. Whatever else is named is refused.

Source of the layouts: Python's pickletools; torch/serialization.py (`_legacy_save`) and torch/_utils.py;
numpy's ndarray.__reduce__; torch_geometric/data/data.py and storage.py.
"""

import io
import math
import pickletools
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.errors import DataError

MAX_STEPS = 100_000
"""Instructions a record may take, those of the tensors within it included; published ones take about a thousand."""
MALFORMED_PICKLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    MemoryError,
    RecursionError,
    struct.error,
)
"""What `loads` raises for a pickle that is broken, and not hostile."""

_TORCH_MAGIC, _TORCH_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_STORAGES = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}
_PYG_CLASSES = (
    "torch_geometric.data.data.Data",
    "torch_geometric.data.data.DataEdgeAttr",
    "torch_geometric.data.data.DataTensorAttr",
    "torch_geometric.data.storage.GlobalStorage",
)
_INTEGERS = ("BININT", "BININT1", "BININT2", "LONG1", "LONG4")
_BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")
_TEXT = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_PUSHED_AS_READ = frozenset((*_INTEGERS, *_BYTES, *_TEXT, "BINFLOAT"))
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class _Name:
    """A name of the table; not the thing it names."""

    text: str


@dataclass
class Inert:
    """Stands for an object: the name of its class, what it was made from, and the state that was given to it."""

    name: str
    args: tuple[Any, ...] = ()
    state: Any = field(default=None, repr=False)


def loads(data: bytes, where: str) -> Any:
    """Read a pickle of plain values, arrays, tensors and PyTorch-Geometric objects; `where` names it in messages.

    Raises:
        DataError: if it names anything beyond the table: a hostile or a foreign file.
        ValueError or another of MALFORMED_PICKLE: if it is not a whole pickle, or larger or stranger than records are.
    """
    return _Interpreter(where, len(data)).run(io.BytesIO(data))


def to_array(value: Any) -> NDArray[Any]:
    """A number, flat list of numbers, tensor or array as an array of bool, integers or floats.

    Raises:
        ValueError or another of MALFORMED_PICKLE: if it is none of these.
    """
    if isinstance(value, Inert):
        value = _numpy_array(value)
    if isinstance(value, list | tuple) and not all(isinstance(item, int | float) for item in value):
        raise TypeError("a nested list where numbers are expected")  # shared lists within lists multiply without end
    if not isinstance(value, np.ndarray | int | float | list | tuple):
        raise TypeError(f"a {type(value).__name__} where numbers are expected")
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{array.dtype} where numbers are expected")
    return array


class _Interpreter:
    """Runs one record; num_bytes: its length, which what it decodes may not exceed."""

    def __init__(self, where: str, num_bytes: int) -> None:
        self._where = where
        self._steps_left = MAX_STEPS
        self._bytes_left = num_bytes

    def run(self, stream: io.BytesIO) -> Any:
        """Read up to the next STOP."""
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}
        for opcode, arg, _ in pickletools.genops(stream):
            self._steps_left -= 1
            if self._steps_left < 0:
                raise ValueError(f"more than {MAX_STEPS} instructions")
            name = opcode.name
            if name in _PUSHED_AS_READ:
                stack.append(arg)
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("BINPUT", "LONG_BINPUT"):
                memo[arg] = stack[-1]  # type: ignore[index]
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[arg])  # type: ignore[index]
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            elif name == "MARK":
                marks.append(len(stack))
            elif name in _TUPLES:
                stack.append(tuple(_pop(stack, len(stack) - _TUPLES[name])))
            elif name == "TUPLE":
                stack.append(tuple(_pop(stack, marks.pop())))
            elif name == "EMPTY_DICT":
                stack.append({})
            elif name in ("EMPTY_LIST", "EMPTY_SET"):
                stack.append([])
            elif name in ("APPENDS", "ADDITEMS"):
                _extend(stack, _pop(stack, marks.pop()))
            elif name == "APPEND":
                _extend(stack, _pop(stack, len(stack) - 1))
            elif name == "SETITEMS":
                _set_items(stack, _pop(stack, marks.pop()))
            elif name == "SETITEM":
                _set_items(stack, _pop(stack, len(stack) - 2))
            elif name in ("GLOBAL", "INST"):
                stack.append(self._name(*str(arg).split(" ", 1)))
            elif name == "STACK_GLOBAL":
                stack.append(self._name(*_pop(stack, len(stack) - 2)))
            elif name in ("REDUCE", "NEWOBJ"):
                called, args = _pop(stack, len(stack) - 2)
                stack.append(self._call(called, args))
            elif name == "BUILD":
                state = stack.pop()
                if not isinstance(stack[-1], Inert):
                    raise TypeError(f"state for a {type(stack[-1]).__name__}")
                stack[-1].state = state
            elif name == "BINPERSID":
                stack.append(Inert("storage", (stack.pop(),)))
            elif name == "STOP":
                return stack.pop()
            elif name not in ("PROTO", "FRAME"):
                raise ValueError(f"instruction {name} is not known to this reader")
        raise ValueError("no end")

    def _name(self, module: Any, name: Any) -> _Name:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a name that is not text")
        text = f"{module}.{name}"
        if text not in _ALLOWED:
            raise DataError(
                f"{self._where}: the pickle names {text[:80]!r}, which is not part of a record; the file is not read, "
                "since pickles can run code"
            )
        return _Name(text)

    def _call(self, called: Any, args: Any) -> Any:
        """What a name of the table makes of its arguments; nothing but this module runs."""
        if not isinstance(called, _Name) or not isinstance(args, tuple):
            raise TypeError(f"a call of a {type(called).__name__}")
        text = called.text
        if text == "torch.storage._load_from_bytes":
            return self._storage(*args)
        if text == "_codecs.encode":
            return self._encoded(*args)
        if text in _CALLS:
            return _CALLS[text](*args)
        return Inert(text, args)

    def _encoded(self, text: str, encoding: str) -> bytes:
        """Bytes, as protocols below 3 wrote them."""
        self._bytes_left -= len(text)
        if encoding != "latin1" or self._bytes_left < 0:
            raise ValueError("bytes that are not plain, or more of them than the record holds")
        return text.encode(encoding)

    def _storage(self, data: bytes) -> NDArray[Any]:
        """The numbers of a tensor's storage, in torch's serialization of before 1.6, which pickles of tensors keep."""
        if not isinstance(data, bytes):
            raise TypeError(f"a storage in a {type(data).__name__}")
        stream = io.BytesIO(data)
        magic, protocol, system, storage, keys = (self.run(stream) for _ in range(5))
        if (magic, protocol) != (_TORCH_MAGIC, _TORCH_PROTOCOL) or not system["little_endian"]:
            raise ValueError("not a little-endian torch storage")
        kind, kind_name, key, _, num_elements, *view = storage.args[0]
        if kind != "storage" or not isinstance(key, str) or keys != [key] or any(part is not None for part in view):
            raise ValueError("not one whole torch storage")
        stored = int.from_bytes(stream.read(8), "little")
        if stored != num_elements:
            raise ValueError(f"a storage of {num_elements} elements holds {stored}")
        return np.frombuffer(data, np.dtype(_STORAGES[kind_name.text]), count=stored, offset=stream.tell())


def _pop(stack: list[Any], start: int) -> list[Any]:
    if start < 0:
        raise IndexError("an empty stack")
    items = stack[start:]
    del stack[start:]
    return items


_MAX_KEY = 2**32


def _extend(stack: list[Any], items: list[Any]) -> None:
    if type(stack[-1]) is not list:
        raise TypeError(f"items for a {type(stack[-1]).__name__}")
    stack[-1].extend(items)


def _set_items(stack: list[Any], items: list[Any]) -> None:
    if type(stack[-1]) is not dict or len(items) % 2:
        raise TypeError(f"{len(items)} keys and values for a {type(stack[-1]).__name__}")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str | int):  # the hash of a deep tuple would overflow C's stack
            raise TypeError(f"a {type(key).__name__} as a key")
        if isinstance(key, int) and abs(key) > _MAX_KEY:  # such integers can be made to collide
            raise ValueError(f"{key} as a key")
        stack[-1][key] = value


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> NDArray[Any]:
    """A view into a storage, after a check that it stays within; gradients and hooks are ignored."""
    if not isinstance(storage, np.ndarray) or len(size) != len(stride) or len(size) > 8:
        raise ValueError("not a tensor over a storage")
    steps = list(zip(size, stride, strict=True))
    if not all(type(n) is int and type(step) is int and min(n, step) >= 0 for n, step in [*steps, (0, offset)]):
        raise ValueError(f"sizes {size} and strides {stride} are not counts")
    num_elements = math.prod(size)
    if num_elements == 0:
        return np.zeros(size, storage.dtype)
    if num_elements > storage.size or offset + sum((n - 1) * step for n, step in steps) >= storage.size:
        raise ValueError(f"a tensor of size {size} goes beyond its storage of {storage.size} elements")
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False)


def _numpy_array(value: Inert) -> NDArray[Any]:
    """The array or scalar that numpy's reduction describes."""
    content: Any
    shape: Any
    order: Any
    if value.name.endswith("multiarray.scalar"):
        dtype, content = value.args
        shape, order = (), "C"
    elif value.name.endswith("numeric._frombuffer"):
        content, dtype, shape, order = value.args
    elif value.name.endswith("multiarray._reconstruct"):
        _, shape, dtype, by_columns, content = value.state
        order = "F" if by_columns else "C"
    else:
        raise TypeError(f"a {value.name} where numbers are expected")
    if not isinstance(content, bytes | bytearray) or order not in ("C", "F"):
        raise TypeError(f"numbers as a {type(content).__name__}, not bytes in a known order")
    array: NDArray[Any] = np.frombuffer(content, _dtype(dtype)).reshape(shape, order=order)
    return array


def _dtype(value: Any) -> np.dtype[Any]:
    """A type of plain numbers; no objects, no records, no text."""
    if not isinstance(value, Inert) or value.name != "numpy.dtype":
        raise TypeError("no numpy dtype")
    if not (isinstance(value.args[0], str) and re.fullmatch(r"[biuf][1248]", value.args[0])):
        kind = value.args[0] if isinstance(value.args[0], str) else "?"
        raise TypeError(f"numpy dtype {kind[:20]!r} where numbers are expected")
    order: Any = value.state[1] if value.state else "="
    if order not in ("<", ">", "|", "="):
        raise ValueError("byte order")
    return np.dtype(value.args[0]).newbyteorder(order)


def _empty(*_: Any) -> dict[Any, Any]:
    """Hooks of a tensor, and the caches of a PyTorch-Geometric storage: of no interest, but filled by the pickle."""
    return {}


_CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "collections.OrderedDict": _empty,
    "collections.defaultdict": _empty,
    "torch_geometric.data.storage.AttrType": str,
    "__builtin__.bytes": lambda: b"",  # as protocol 2 writes no bytes at all
}
_ALLOWED = frozenset(
    {
        *_CALLS,
        *_STORAGES,
        *_PYG_CLASSES,
        "torch.storage._load_from_bytes",
        "_codecs.encode",
        "builtins.set",
        "__builtin__.set",
        "numpy.dtype",
        "numpy.ndarray",
        *(
            f"numpy.{core}.{name}"
            for core in ("core", "_core")
            for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
        ),
    }
)
