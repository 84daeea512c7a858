"""Read checkpoints from untrusted files: no code of theirs runs, and their size bounds the work."""

import os
import pickle
import re
import stat
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from focal_retina.checkpoint.pickles import ArrayUnpickler, Rehearsal
from focal_retina.errors import UserError

# Where projects keep the weights inside a checkpoint.
_WEIGHTS_KEYS = ("model", "state_dict", "blobs", "model_state_dict", "model_state")
# Lists of names, beside the weights of some of Caffe2's files.
_NO_WEIGHTS = ("weight_order",)
_TYPES = {"bool", "uint8", "int8", "int16", "int32", "int64"}
_TYPES |= {"float16", "bfloat16", "float32", "float64"}
# How many times the size of a file its content may have: tied weights count more than once.
_LARGEST = 8


def read_checkpoint(path: str) -> dict:
    """Return the content of a ``.pkl``, a ``.safetensors`` or any other file, by ``torch.save``.

    Its "model" has the weights, wherever they are in the file: dense tensors on the CPU, by name.

    Raises:
        UserError: there is no such file, it is none of the three kinds, it asks for something other
            than arrays and plain containers, which the error names and nothing runs, or a weight
            is no such tensor.
    """
    try:
        return _read(path)
    except UserError as error:
        raise UserError(f"{path} {error}") from error


def damage(path: str) -> str | None:
    """Return why a file cannot be read as a checkpoint; None if it can."""
    try:
        _read(path)
    except UserError as error:
        return str(error).removeprefix("is not a checkpoint: ")
    return None


def _read(path: str) -> dict:
    """Do what :func:`read_checkpoint` does; errors have the end of a sentence on the file."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UserError("is no regular file")
        content = _unchecked(path)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror or error}") from error
    except UserError:
        raise
    except Exception as error:  # a damaged file may raise any
        # As torch.load and ArrayUnpickler word it.
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted and isinstance(error, pickle.UnpicklingError):
            raise UserError(
                f"is refused: it tried to use {wanted[1]}, and a checkpoint may hold arrays and "
                "plain containers only"
            ) from error
        kind = type(error).__name__
        raise UserError(
            f"is not a checkpoint: it is damaged, or of another format ({kind})"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"is not a checkpoint: it holds a {type(content).__name__}")
    found = [key for key in _WEIGHTS_KEYS if key in content]
    if not found:
        return {"model": _checked(content, status.st_size)}
    # By the class's own method, which an attribute in the file cannot hide.
    content = dict(dict.items(content))
    weights: dict = next((content.pop(key) for key in found if isinstance(content[key], dict)), {})
    return {**content, "model": _checked(weights, status.st_size)}


def _checked(weights: dict, size: int) -> OrderedDict[str, Tensor]:
    """Return the weights of a file of so many bytes; a UserError says what is no weight."""
    found = {k: x for k, x in dict.items(weights) if k not in _NO_WEIGHTS}
    if not found or not all(isinstance(name, str) for name in found):
        raise UserError("is not a checkpoint: it holds no weights by name")
    for name, value in found.items():
        if reason := _fault(value):
            raise UserError(f"is not a checkpoint: its {name} is {reason}, not a tensor of numbers")
    if sum(x.nbytes for x in found.values()) > _LARGEST * size:
        raise UserError(f"is not a checkpoint: its weights are {_LARGEST} times larger than it")
    checked = OrderedDict((name, _tensor(value)) for name, value in found.items())
    checked._metadata = _versions(getattr(weights, "_metadata", {}))  # type: ignore[attr-defined]
    return checked


def _fault(value: Any) -> str | None:
    """Return what a value is; None if it is a dense tensor or an array of numbers."""
    if isinstance(value, np.ndarray | np.generic):
        return None if value.dtype.name in _TYPES else f"an array of {value.dtype.name}"
    if type(value) not in (Tensor, nn.Parameter):
        return f"a {type(value).__name__}"
    if value.layout != torch.strided or value.is_nested or value.is_quantized:
        return "sparse, nested or quantized"
    if value.device.type != "cpu":
        return f"on device {value.device}"
    kind = str(value.dtype).removeprefix("torch.")
    return None if kind in _TYPES else f"of {kind}"


def _tensor(value: Tensor | np.ndarray | np.generic) -> Tensor:
    """Return a plain tensor, without attributes of its own."""
    if isinstance(value, Tensor):
        return Tensor.detach(value)
    return torch.from_numpy(np.asarray(value).astype(value.dtype.newbyteorder("="), copy=False))


def _versions(metadata: object) -> OrderedDict:
    """Return the versions of the modules that had the weights, as PyTorch keeps them."""
    items = dict.items(metadata) if isinstance(metadata, dict) else [(None, None)]
    found = OrderedDict()
    for name, entry in items:
        version = dict.get(entry, "version") if isinstance(entry, dict) else ""
        if not isinstance(name, str) or not isinstance(version, int | None):
            raise UserError("is not a checkpoint: the versions of its modules are malformed")
        found[name] = {"version": version}
    return found


def _unchecked(path: str) -> object:
    """Return whatever a file of one of the three kinds holds."""
    if path.endswith(".safetensors"):  # the package gives them in an order of chance
        return dict(sorted(safetensors.torch.load(Path(path).read_bytes()).items()))
    size = os.path.getsize(path)
    with open(path, "rb") as file:  # a zip file by its beginning; its end may be missing
        if path.endswith(".pkl"):
            return ArrayUnpickler(file, size).load()
        is_zip = file.read(4) == b"PK\x03\x04"
        if not is_zip:  # three numbers of the format, the content, the names of its storages
            file.seek(0)
            for _ in range(5):
                Rehearsal(file, size).load()
    if is_zip:
        _check_zip(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_zip(path: str) -> None:
    """Raise a UserError unless a zip file is whole: ``torch.load`` looks at no checksum."""
    if not zipfile.is_zipfile(path):
        raise UserError("is not a checkpoint: its end is missing")
    with zipfile.ZipFile(path) as archive:
        if sum(x.file_size for x in archive.infolist()) > _LARGEST * os.path.getsize(path):
            raise UserError(f"is not a checkpoint: its parts are {_LARGEST} times larger than it")
        if part := archive.testzip():
            raise UserError(f"is not a checkpoint: the checksum of its part {part} does not fit")
        for record in archive.infolist():
            if record.filename.lower().endswith("data.pkl"):  # as PyTorch finds it
                with archive.open(record) as file:
                    Rehearsal(file, record.file_size).load()
