"""Models of other projects with mildly random weights, images to compare them on, hostile files."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from detectron2.data import transforms as T
from detectron2.data.detection_utils import read_image
from detectron2.modeling import build_model
from torch import nn

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.settings.yaml_config import load_yaml
from focal_retina.tools.convert_checkpoint import main

SHORT_SIDE = 96


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every normalisation statistics and a scale of its own, and every bias a value."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.6, generator=generator)
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            module.weight.data.uniform_(0.6, 1.0, generator=generator)
            module.bias.data.normal_(0, 0.1, generator=generator)
    return model.eval()


class Burglar:
    """What unpickling turns into a call of ``os.system``, which makes a file."""

    def __init__(self, witness: Path):
        self.command = f"touch {witness}"

    def __reduce__(self):
        return os.system, (self.command,)


def write(content: dict, path: Path) -> str:
    """Save a ``.pkl`` or a ``.pth``, and return its name."""
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    return str(path)


def by_anchor(levels: list[torch.Tensor]) -> torch.Tensor:
    """Return a head's output, L x (N, 9*V, H, W), as (N, R, V)."""
    flat = [x.unflatten(1, (9, -1)).permute(0, 3, 4, 1, 2).flatten(1, 3) for x in levels]
    return torch.cat(flat, dim=1)


def by_size(x: torch.Tensor) -> torch.Tensor:
    """Reorder (N, R, V) from (place, ratio, size) to our order (place, size, ratio)."""
    return x.unflatten(1, (-1, 3, 3)).transpose(2, 3).flatten(1, 3)


def synthetic_images() -> list[torch.Tensor]:
    """Return two RGB images, (3, H, W) uint8, one of which needs padding."""
    generator = torch.Generator().manual_seed(1)
    sizes = [(SHORT_SIDE, 128), (SHORT_SIDE, 139)]
    coarse = [torch.rand(1, 3, h // 16, w // 16, generator=generator) for h, w in sizes]
    smooth = [
        nn.functional.interpolate(x, size=size, mode="bicubic")
        for x, size in zip(coarse, sizes, strict=True)
    ]
    return [(255 * x[0]).clamp(0, 255).byte() for x in smooth]


def real_images() -> list[torch.Tensor]:
    """Return a few photographs, as above; skip the test where there are none."""
    folder = Path(os.environ.get("DETECTRON2_DATASETS", "datasets")) / "coco/val2017"
    files = sorted(folder.glob("*.jpg"))[:2]
    if not files:
        pytest.skip("DETECTRON2_DATASETS holds no COCO")
    images = [read_image(str(file), format="RGB") for file in files]
    smaller = [T.ResizeShortestEdge(SHORT_SIDE).get_transform(x).apply_image(x) for x in images]
    return [torch.tensor(x).permute(2, 0, 1) for x in smaller]


IMAGES = {"synthetic": synthetic_images, "real": real_images}


def converted(content: dict, folder: Path, *options: str, name: str = "source.pth"):
    """Save a checkpoint, convert it by the command, and return config and model built of it."""
    torch.save(content, folder / name)
    assert main([str(folder / name), str(folder / "target.pth"), *options]) == 0
    return built(folder / "target.yaml")


def built(config_file: Path):
    cfg = load_yaml(str(config_file), ["MODEL.DEVICE", "cpu"])
    model = build_model(cfg).eval()
    FocalCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    return cfg, model


@torch.no_grad()
def outputs(model, images: list[torch.Tensor]):
    """Return logits, L x (N, A*K, H, W), and deltas of ``FocalRetinaNet``."""
    outputs = model.head_outputs([{"image": x} for x in images])
    return outputs.logits, outputs.deltas
