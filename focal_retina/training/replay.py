"""A batch and a model's weights in a file, to run them again."""

import numpy as np
import torch
from detectron2 import structures
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

_LEFT_OUT = object()


def save_batch(path: str, model: nn.Module, batch: list[dict], dtype: torch.dtype | None) -> None:
    """Write what :func:`replay` needs; ``torch.load`` reads it with ``weights_only=True``.

    Args:
        batch: dicts as Detectron2's data loader makes them. The file has their tensors, plain
            values and structures of Detectron2, and nothing else.
        dtype: of autocast, or None.
    """
    name = None if dtype is None else str(dtype).removeprefix("torch.")
    torch.save({"model": model.state_dict(), "batch": _to_plain(batch), "dtype": name}, path)


def load_batch(path: str) -> list[dict]:
    """Return the batch of a file of :func:`save_batch`."""
    return _from_plain(torch.load(path, map_location="cpu", weights_only=True)["batch"])


def replay(path: str, model: nn.Module) -> dict[str, Tensor]:
    """Load the file's weights into a model and return its losses for the file's batch.

    Args:
        path: of :func:`save_batch`.
        model: built from the config of the run; left in training mode, for a closer look.
    """
    content = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(content["model"])
    device = next(model.parameters()).device.type
    dtype = content["dtype"] and getattr(torch, content["dtype"])
    with EventStorage(1), torch.autocast(device, dtype, enabled=dtype is not None):
        return model.train()(_from_plain(content["batch"]))


def _to_plain(value):
    """Return the value with {"class": name, "fields": ...} in the place of each structure."""
    match value:
        case Tensor() | str() | int() | float() | None:
            return value
        case np.ndarray():
            return torch.as_tensor(value)
        case dict():
            plain = {k: _to_plain(v) for k, v in value.items()}
            return {k: v for k, v in plain.items() if v is not _LEFT_OUT}
        case list() | tuple():
            return [x for x in map(_to_plain, value) if x is not _LEFT_OUT]
        case structures.Instances():
            fields = _to_plain(value.get_fields())
            return {"class": "Instances", "image_size": list(value.image_size), "fields": fields}
        case structures.PolygonMasks():
            return {"class": "PolygonMasks", "fields": _to_plain(value.polygons)}
    is_structure = hasattr(value, "tensor")
    return {"class": type(value).__name__, "fields": value.tensor} if is_structure else _LEFT_OUT


def _from_plain(value):
    match value:
        case {"class": "Instances", "image_size": size, "fields": fields}:
            return structures.Instances(tuple(size), **_from_plain(fields))
        case {"class": str(name), "fields": fields}:
            return getattr(structures, name)(_from_plain(fields))
        case dict():
            return {k: _from_plain(v) for k, v in value.items()}
        case list():
            return [_from_plain(x) for x in value]
    return value
