"""Unpickle arrays and plain containers: no code runs, and the size of a file bounds the work."""

import pickle
import re
import sys
from collections import OrderedDict
from collections.abc import Callable
from math import prod
from typing import IO, Any

import numpy as np

from focal_retina.detectron2_internals import PythonUnpickler

# They make objects of any class, or need what a file lacks.
_REFUSED = b"".join(
    (
        *(pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.FROZENSET),
        *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID, pickle.BINPERSID),
        *(pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    )
)
# What becomes a key, of the stack above the last mark. A nested tuple may take for ever to hash.
_KEYS: dict[bytes, Callable[[list], list]] = {
    pickle.SETITEM: lambda stack: stack[-2:-1],
    pickle.SETITEMS: lambda stack: stack[::2],
    pickle.DICT: lambda stack: stack[::2],
    pickle.ADDITEMS: lambda stack: stack,
}


# A checkpoint takes some 50 reads for each tensor, and each may make an object of 216 bytes.
_MOST_READS = 2**21
_LONGEST_KEY = 8
# How many times the size of a file what its calls make may have, and what a small file may.
_LARGEST, _SMALLEST_LIMIT = 8, 2**20


class _Bounded:
    """A file that can be read so many times: each opcode of a pickle takes one or more."""

    def __init__(self, file: IO[bytes], size: int):
        self._file, self._size, self._left = file, size, _MOST_READS

    def read(self, size: int) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise pickle.UnpicklingError("too many objects")
        return self._file.read(min(size, self._size))

    def readline(self) -> bytes:
        return self._file.readline()


class _Type:
    """A NumPy type of numbers or text, of which a file may set the order of bytes only."""

    def __init__(self, code: str, align: bool = False, copy: bool = True):
        if not re.fullmatch(r"[<>=|]?(b1|[iufcSU][1-9]\d{0,8})", code):
            raise pickle.UnpicklingError(f"GLOBAL numpy.dtype({code[:20]}) is not allowed")
        self.numpy = np.dtype(code)

    def build(self, state: tuple) -> None:
        _, order, *inner = state[:5]
        if any(x is not None for x in inner):
            raise pickle.UnpicklingError("GLOBAL numpy.dtype of fields is not allowed")
        self.numpy = self.numpy.newbyteorder(order)


def _as_bytes(data: object) -> bytes:
    """Return bytes, which Python 2 wrote as text."""
    if isinstance(data, str):
        return data.encode("latin1")
    if isinstance(data, bytes | bytearray):
        return bytes(data)
    raise pickle.UnpicklingError("the numbers of an array are no bytes")


def _set(items: list) -> set:
    _check_keys(items)
    return set(items)


def _ordered_dict(items: list | tuple = ()) -> OrderedDict:
    _check_keys([key for key, _ in items])
    return OrderedDict(items)


def _array(
    data: object, kind: _Type, shape: tuple, order: Any, axes: tuple | None = None
) -> np.ndarray:
    flat = np.frombuffer(_as_bytes(data), kind.numpy)
    if axes is not None:  # as NumPy 2.3 and later write arrays in another order than C's
        return flat.reshape(shape).transpose(axes).copy(order="K")
    return flat.reshape(shape, order=order).copy(order="K")


def _build_array(array: np.ndarray, state: tuple) -> None:
    """Fill an array that ``_reconstruct`` has made, which is empty."""
    shape, kind, is_fortran, data = state[-4:]
    data = _as_bytes(data)
    sizes_fit = all(isinstance(x, int) and x >= 0 for x in shape)
    if array.size or not sizes_fit or prod(shape) * kind.numpy.itemsize != len(data):
        raise pickle.UnpicklingError("an array has another size than its numbers")
    plain: Any = (1, tuple(shape), kind.numpy, bool(is_fortran), data)
    array.__setstate__(plain)


def _check_keys(keys: list) -> None:
    plain = str | bytes | int | float | None
    for key in keys:
        parts = key if isinstance(key, tuple) and len(key) <= _LONGEST_KEY else (key,)
        if not all(isinstance(x, plain) for x in parts):
            raise pickle.UnpicklingError("a key is neither text nor a number, nor a few of them")


def _with_plain_keys(code: int, keys: Callable[[list], list]) -> Callable:
    """Return what an opcode does, which first looks at its keys."""

    def load(unpickler: PythonUnpickler) -> None:
        _check_keys(keys(unpickler.stack))
        PythonUnpickler.dispatch[code](unpickler)

    return load


class ArrayUnpickler(PythonUnpickler):
    """Unpickle NumPy arrays, numbers, strings, lists, tuples, sets and dicts; refuse all else."""

    ALLOWED: dict[str, Callable | None] = {
        "__builtin__.set": _set,
        "builtins.set": _set,
        "__builtin__.bytes": lambda: b"",
        "_codecs.encode": lambda text, _="latin1": _as_bytes(text),
        "collections.OrderedDict": _ordered_dict,
        "numpy.dtype": _Type,
        "numpy.ndarray": None,  # the one kind that ``_reconstruct`` is asked for
        "numpy.core.multiarray._reconstruct": lambda *_: np.empty(0),
        "numpy.core.multiarray.scalar": lambda kind, data: _array(data, kind, (1,), "C")[0],
        "numpy.core.numeric._frombuffer": _array,
    }

    def __init__(self, file: IO[bytes], size: int):
        # Detectron's files are of Python 2.
        super().__init__(_Bounded(file, size), encoding="latin1")
        self._left = max(_LARGEST * size, _SMALLEST_LIMIT)

    def find_class(self, module: str, name: str) -> object:
        wanted = f"{module}.{name}".replace("numpy._core", "numpy.core")  # NumPy 2 renamed it
        if wanted not in self.ALLOWED:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not allowed")
        return self.ALLOWED[wanted]

    def _spend(self) -> None:
        """Count the bytes of what is new on the stack: a call may copy the same object again."""
        self._left -= sys.getsizeof(self.stack[-1])
        if self._left < 0:
            raise pickle.UnpicklingError(f"its content is {_LARGEST} times larger than it")

    def load_reduce(self) -> None:
        PythonUnpickler.load_reduce(self)
        self._spend()

    def load_build(self) -> None:
        """Give the object below the top of the stack its state."""
        state = self.stack.pop()
        match self.stack[-1]:
            case _Type() as kind:
                kind.build(state)
            case np.ndarray() as array:
                _build_array(array, state)
            case OrderedDict() as weights:
                weights.__dict__["_metadata"] = state.get("_metadata", {})
            case other:
                raise pickle.UnpicklingError(f"GLOBAL {type(other).__name__} is not allowed")
        self._spend()

    def load_frame(self) -> None:
        """Read on from the file, where each read counts."""
        self.read(8)

    def load_bytearray8(self) -> None:
        """Read the bytes that are there before memory is taken for as many as are announced."""
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(size)))

    dispatch = {k: load for k, load in PythonUnpickler.dispatch.items() if k not in _REFUSED}
    dispatch |= {code[0]: _with_plain_keys(code[0], keys) for code, keys in _KEYS.items()}
    dispatch |= {pickle.REDUCE[0]: load_reduce, pickle.FRAME[0]: load_frame}
    dispatch |= {pickle.BUILD[0]: load_build, pickle.BYTEARRAY8[0]: load_bytearray8}


class _StandIn:
    """What ``torch.load`` would make of arguments: as large as they are, as if it copied them."""

    def __init__(self, *arguments: object):
        self._size = sum(map(sys.getsizeof, arguments))

    def __sizeof__(self) -> int:
        return self._size


class Rehearsal(ArrayUnpickler):
    """Do the work of ``torch.load`` without its tensors, within the limits on a pickle."""

    def find_class(self, module: str, name: str) -> object:
        if name == "bytearray":  # of any size
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not allowed")
        return self.ALLOWED.get(f"{module}.{name}") or _StandIn

    def persistent_load(self, _: object) -> _StandIn:
        return _StandIn()

    def load_build(self) -> None:
        if isinstance(self.stack[-2], _StandIn):
            self.stack[-2:] = [_StandIn(self.stack[-1])]
        else:
            super().load_build()

    dispatch = ArrayUnpickler.dispatch | {
        pickle.BINPERSID[0]: PythonUnpickler.load_binpersid,
        pickle.BUILD[0]: load_build,
    }
