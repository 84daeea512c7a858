"""Read checkpoints from untrusted files without running code."""

import json
import os
import pickle
import re
import struct
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

from focal_retina.errors import UserError

# Where projects keep the weights inside a checkpoint.
_WEIGHTS_KEYS = ("model", "state_dict", "blobs", "model_state_dict")


def read_checkpoint(path: str) -> dict:
    """Return the content of a ``.pkl``, a ``.safetensors`` or any other file, by ``torch.save``.

    Raises:
        UserError: there is no such file, it is none of the three kinds, or it asks for something
            other than arrays and plain containers, which the error names and nothing runs.
    """
    readers = {"pkl": _read_pickle, "safetensors": _read_safetensors}
    try:
        content = readers.get(path.rpartition(".")[2], _read_torch)(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged file may raise any
        # As torch.load and ArrayUnpickler word it.
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted and isinstance(error, pickle.UnpicklingError):
            raise UserError(
                f"{path} is refused: it tried to use {wanted[1]}, and a checkpoint may hold arrays "
                "and plain containers only"
            ) from error
        # Without the advice of torch.load to let the file run its code.
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{path} is not a checkpoint: {reason}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a checkpoint: it holds a {type(content).__name__}")
    weights = _weights(content)
    if weights is None or not all(isinstance(name, str) for name in weights):
        raise UserError(f"{path} is not a checkpoint: it holds no weights by name")
    return content


def weights_of(checkpoint: dict) -> dict:
    """Return the weights by name, without the prefix of data-parallel training."""
    return {name.removeprefix("module."): x for name, x in (_weights(checkpoint) or {}).items()}


def _weights(checkpoint: dict) -> dict | None:
    inner = [checkpoint[key] for key in _WEIGHTS_KEYS if key in checkpoint] or [checkpoint]
    return next((x for x in inner if isinstance(x, dict)), None)


def damage(path: str) -> str | None:
    """Return what is wrong with a file of ``torch.save``; None if it is whole.

    It looks at the checksums, which ``torch.load`` does not.
    """
    if not os.path.isfile(path):
        return "there is no such file"
    if _is_zip(path):
        return _zip_damage(path)
    try:  # a file of before PyTorch 1.6, or none at all
        torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, KeyError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        return str(error) or type(error).__name__
    return None


def _is_zip(path: str) -> bool:
    """Return whether a file begins as a zip file; its end may be missing."""
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _zip_damage(path: str) -> str | None:
    if not zipfile.is_zipfile(path):
        return "its end is missing"
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except (
        *(zipfile.BadZipFile, struct.error, zlib.error),
        *(EOFError, NotImplementedError, OSError, RuntimeError, ValueError),
    ) as error:
        return str(error)
    return f"the checksum of its part {part} does not fit" if part else None


def _read_torch(path: str) -> object:
    if _is_zip(path) and (reason := _zip_damage(path)):
        raise ValueError(reason)
    return torch.load(path, map_location="cpu", weights_only=True)


def _read_pickle(path: str) -> object:
    with open(path, "rb") as file:
        # Detectron's files are of Python 2.
        return ArrayUnpickler(file, encoding="latin1").load()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Do what pickles of bytes want of ``codecs.encode``, and nothing else of it."""
    return text.encode("latin1")


class ArrayUnpickler(pickle.Unpickler):
    """Unpickle NumPy arrays, numbers, strings, lists, tuples, sets and dicts; refuse all else."""

    ALLOWED = {
        "__builtin__.set": set,
        "builtins.set": set,
        "_codecs.encode": _encode,
        "collections.OrderedDict": OrderedDict,
        "numpy.dtype": np.dtype,
        "numpy.ndarray": np.ndarray,
        "numpy.core.multiarray._reconstruct": np.zeros(0).__reduce__()[0],
        "numpy.core.multiarray.scalar": np.float32(0).__reduce__()[0],
    }

    def find_class(self, module: str, name: str) -> object:
        wanted = f"{module}.{name}".replace("numpy._core", "numpy.core")  # NumPy 2 renamed it
        if wanted not in self.ALLOWED:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not allowed")
        return self.ALLOWED[wanted]


_SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
}


def _read_safetensors(path: str) -> dict:
    """Read timm's format: the length of a json header, the header, and the numbers."""
    content = Path(path).read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header, numbers = json.loads(content[8:start]), bytearray(content[start:])
    header.pop("__metadata__", None)
    weights = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        dtype = _SAFETENSORS_DTYPES[entry["dtype"]]
        # PyTorch takes no empty buffer.
        flat = torch.frombuffer(numbers[start:end], dtype=dtype) if start != end else torch.zeros(0)
        weights[name] = flat.to(dtype).view(entry["shape"])
    return weights
