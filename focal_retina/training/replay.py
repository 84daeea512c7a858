"""A batch and a model's weights in a file, to run them again.

from detectron2.modeling import build_model
from focal_retina.settings.yaml_config import load_yaml
from focal_retina.training.replay import replay
model = build_model(load_yaml("output/config.yaml"))
print(replay("output/nonfinite_iter_0000012_rank0.pth", model))
"""

import numpy as np
import torch
from detectron2 import structures
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

_PLAIN = (Tensor, str, int, float, bool, type(None))


def save_batch(path: str, model: nn.Module, batch: list[dict], dtype: torch.dtype | None) -> None:
    """Write what :func:`replay` needs; ``torch.load`` reads it with ``weights_only=True``.

    Args:
        batch: dicts as Detectron2's data loader makes them. The file has their tensors, plain
            values and structures of Detectron2, and nothing else.
        dtype: of autocast, or None.
    """
    content = {"model": model.state_dict(), "batch": _to_plain(batch)}
    torch.save({**content, "dtype": None if dtype is None else str(dtype).split(".")[1]}, path)


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
        case np.ndarray():
            return torch.as_tensor(value)
        case structures.Instances():
            fields = {name: _to_plain(field) for name, field in value.get_fields().items()}
            return {"class": "Instances", "image_size": list(value.image_size), "fields": fields}
        case structures.PolygonMasks():
            return {"class": "PolygonMasks", "fields": _to_plain(value.polygons)}
        case dict():
            return {k: _to_plain(v) for k, v in value.items() if _is_known(v)}
        case list() | tuple():
            return [_to_plain(x) for x in value]
    is_structure = hasattr(value, "tensor") and not isinstance(value, Tensor)
    return {"class": type(value).__name__, "fields": value.tensor} if is_structure else value


def _is_known(value) -> bool:
    known = (*_PLAIN, np.ndarray, dict, list, tuple, structures.Instances, structures.PolygonMasks)
    return isinstance(value, known) or hasattr(value, "tensor")


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
