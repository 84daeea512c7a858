"""What a conversion returns, and the steps that conversions share: renaming and reordering."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from torch import Tensor

from focal_retina.errors import UserError

COCO_THINGS = {c["id"]: c["name"] for c in COCO_CATEGORIES if c["isthing"]}
COCO_NAMES = list(COCO_THINGS.values())
# Epsilon of batch norm in Detectron2 and torchvision.
NORM_EPS = 1e-5
CLASS_LOGITS = ("head.cls_score.weight", "head.cls_score.bias")
ANCHORS = 9  # per location, of all sources
HEAD_OUTPUTS = (*CLASS_LOGITS, "head.bbox_pred.weight", "head.bbox_pred.bias")
# (pattern, replacement) of ``re.sub``, applied one after the other.
Renaming = Sequence[tuple[str, str | Callable[[re.Match], str]]]


class Conversion(NamedTuple):
    """Weights under the names of ``FocalRetinaNet``, and the settings that go with them."""

    weights: dict[str, Tensor]
    config: dict[str, object]  # dotted key -> value, as far as the source decides it
    class_names: Any  # in the order of the logits; None, or whatever the source has for them
    notes: list[str]  # one sentence for each setting that was guessed


RGB = {
    "INPUT.FORMAT": "RGB",
    # Statistics of ImageNet times 255.
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
}


def resnet_names(prefix: str) -> Renaming:
    """Return the renaming of a ResNet as torchvision, timm and mmdetection have it."""
    ours = "backbone.bottom_up."
    return (
        (rf"^{prefix}conv1\.", f"{ours}stem.conv1."),
        (rf"^{prefix}bn1\.", f"{ours}stem.conv1.norm."),
        (rf"^{prefix}layer([1-4])\.", lambda m: f"{ours}res{int(m[1]) + 1}."),
        (r"(res\d\.\d+\.)bn(\d)\.", r"\1conv\2.norm."),
        (r"(res\d\.\d+\.)downsample\.0\.", r"\1shortcut."),
        (r"(res\d\.\d+\.)downsample\.1\.", r"\1shortcut.norm."),
    )


def fpn_name(kind: str, index: str) -> str:
    """Return the prefix of a "lateral" or "output" convolution; its index counts from P3."""
    return f"backbone.fpn_{kind}{int(index) + 3}."


def rename(name: str, renaming: Renaming) -> str:
    """Return our name for a source's."""
    for pattern, replacement in renaming:
        name = re.sub(pattern, replacement, name)
    return name


def rename_all(weights: dict, renaming: Renaming, dropped: str) -> dict[str, Tensor]:
    """Return all weights, renamed and as float32 tensors, but for names that match ``dropped``.

    A UserError names a weight that is no part of the detector under its new name, or has a type or
    shape that this part never has.
    """
    renamed = {}
    for name, value in weights.items():
        if re.search(dropped, name):
            continue
        ours = rename(name, renaming)
        if not re.match(_OURS, ours):
            raise UserError(f"the source has a weight {name}, which a ResNet RetinaNet lacks")
        _check_weight(name, ours, value)
        if ours in renamed:
            raise UserError(f"the source has two weights for {ours}, one of them {name}")
        renamed[ours] = value.to(torch.float32, copy=True)
    if CLASS_LOGITS[0] in renamed:
        _check_head(renamed)
    return renamed


def _check_weight(name: str, ours: str, value: Tensor) -> None:
    """Raise a UserError unless a weight is of floating-point numbers in the dimensions it needs."""
    is_conv = ours.endswith(".weight") and ".norm." not in ours
    # In the subnets a normalisation has a number of its own.
    ranks = {1, 4} if is_conv and "_subnet." in ours else {4} if is_conv else {1}
    if not value.is_floating_point() or value.dim() not in ranks or not value.numel():
        kind = str(value.dtype).removeprefix("torch.")
        raise UserError(
            f"the source's {name} is of {kind} {tuple(value.shape)}, which does not fit"
        )


def _check_head(weights: dict[str, Tensor]) -> None:
    """Raise a UserError unless the last layers are of 9 anchors and the same classes."""
    logits, deltas = ({len(weights[n]) for n in x} for x in (CLASS_LOGITS, HEAD_OUTPUTS[2:]))
    if deltas != {4 * ANCHORS}:
        raise UserError(
            f"the source has {max(deltas) / 4:g} anchors per location, not 3 sizes of 3 aspect "
            "ratios: write a config with its MODEL.ANCHOR_GENERATOR by hand"
        )
    if len(logits) > 1 or max(logits) % ANCHORS:
        raise UserError(f"the source's head.cls_score has no logits for each of {ANCHORS} anchors")


_OURS = (
    r"backbone\.(bottom_up\.(stem\.conv1|res[2-5]\.\d+\.(conv[123]|shortcut))\.(norm\.)?|"
    r"fpn_(lateral|output)[3-5]\.|top_block\.p[67]\.)(weight|bias|running_(mean|var))$|"
    r"head\.((cls|bbox)_subnet\.\d+|cls_score|bbox_pred)\.(weight|bias)$"
)


def add_missing_biases(weights: dict[str, Tensor]) -> None:
    """Give convolutions of the head, before a normalisation, the bias of 0 that they lack."""
    for name in [n for n in weights if re.match(r"head\..*\.weight", n)]:
        weights.setdefault(name.replace(".weight", ".bias"), torch.zeros(len(weights[name])))


def num_classes(weights: dict[str, Tensor]) -> int:
    return len(weights["head.cls_score.bias"]) // ANCHORS


def transpose_anchors(weights: dict[str, Tensor]) -> None:
    """Reorder the 3 x 3 anchors of logits and deltas, in place: (ratio, size) <-> (size, ratio)."""
    for name in HEAD_OUTPUTS:
        weights[name] = weights[name].unflatten(0, (3, 3, -1)).transpose(0, 1).flatten(0, 2)


def select_classes(weights: dict[str, Tensor], classes: Iterable[int]) -> None:
    """Keep the logits of these classes only, in this order, in place."""
    classes = list(classes)
    for name in CLASS_LOGITS:
        weights[name] = weights[name].unflatten(0, (ANCHORS, -1))[:, classes].flatten(0, 1)
