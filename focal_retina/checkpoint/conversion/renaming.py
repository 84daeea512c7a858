"""What every source's conversion returns, and the steps that they share."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from torch import Tensor

COCO_THINGS = {c["id"]: c["name"] for c in COCO_CATEGORIES if c["isthing"]}
# Detectron2 and torchvision evaluate batch norm with it.
NORM_EPS = 1e-5
CLASS_LOGITS = ("head.cls_score.weight", "head.cls_score.bias")
HEAD_OUTPUTS = (*CLASS_LOGITS, "head.bbox_pred.weight", "head.bbox_pred.bias")
# A table of names: (pattern, replacement) of ``re.sub``, applied in their order.
Table = Sequence[tuple[str, str]]


class Conversion(NamedTuple):
    """Weights under the names of ``FocalRetinaNet``, and what the source means by them."""

    weights: dict[str, Tensor]
    config: dict[str, object]  # dotted key -> value, where the source decides it
    class_names: list[str] | None  # in the order of the logits
    notes: list[str]  # what was decided without being certain, one sentence each


RGB = {
    "INPUT.FORMAT": "RGB",
    # Statistics of ImageNet times 255.
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
}


def resnet_names(prefix: str) -> Table:
    """Return the table for a ResNet named as torchvision, timm and mmdetection name theirs."""
    ours = "backbone.bottom_up."
    return (
        (rf"^{prefix}conv1\.", f"{ours}stem.conv1."),
        (rf"^{prefix}bn1\.", f"{ours}stem.conv1.norm."),
        (rf"^{prefix}layer1\.", f"{ours}res2."),
        (rf"^{prefix}layer2\.", f"{ours}res3."),
        (rf"^{prefix}layer3\.", f"{ours}res4."),
        (rf"^{prefix}layer4\.", f"{ours}res5."),
        (r"(res\d\.\d+\.)bn(\d)\.", r"\1conv\2.norm."),
        (r"(res\d\.\d+\.)downsample\.0\.", r"\1shortcut."),
        (r"(res\d\.\d+\.)downsample\.1\.", r"\1shortcut.norm."),
    )


def rename(name: str, table: Table) -> str:
    """Return our name for a source's."""
    for pattern, replacement in table:
        name = re.sub(pattern, replacement, name)
    return name


def rename_all(weights: dict, table: Table, dropped: str) -> dict[str, Tensor]:
    """Rename all weights, as float32 tensors, but those whose names match ``dropped``.

    Raises:
        ValueError: a weight that the table does not lead to a part of the detector.
    """
    renamed = {}
    for name, value in weights.items():
        if re.search(dropped, name):
            continue
        ours = rename(name, table)
        if not re.match(_OURS, ours):
            raise ValueError(f"the source has a weight {name}, which a ResNet RetinaNet lacks")
        # A copy, since arrays of a pickle may be read-only.
        renamed[ours] = torch.as_tensor(value).to(torch.float32, copy=True)
    return renamed


_OURS = (
    r"backbone\.(bottom_up\.(stem\.conv1|res[2-5]\.\d+\.(conv[123]|shortcut))\.(norm\.)?|"
    r"fpn_(lateral|output)[3-5]\.|top_block\.p[67]\.)(weight|bias|running_(mean|var))$|"
    r"head\.((cls|bbox)_subnet\.\d+|cls_score|bbox_pred)\.(weight|bias)$"
)


def add_missing_biases(weights: dict[str, Tensor]) -> None:
    """Give the head's convolutions before a normalisation, which other projects leave without, a
    bias of 0, in place.
    """
    for name in [n for n in weights if re.match(r"head\..*\.weight", n)]:
        bias = name.replace(".weight", ".bias")
        if bias not in weights:
            weights[bias] = torch.zeros(len(weights[name]))


def num_anchors(weights: dict[str, Tensor]) -> int:
    return len(weights["head.bbox_pred.bias"]) // 4


def num_classes(weights: dict[str, Tensor]) -> int:
    return len(weights["head.cls_score.bias"]) // num_anchors(weights)


def anchors_by_size(weights: dict[str, Tensor], sizes: int = 3, ratios: int = 3) -> None:
    """Reorder the anchors of logits and deltas from (ratio, size) to (size, ratio), in place.

    Called with ``sizes`` and ``ratios`` exchanged it undoes itself.

    Raises:
        ValueError: the head does not have ``sizes * ratios`` anchors.
    """
    if num_anchors(weights) != sizes * ratios:
        raise ValueError(
            f"the source has {num_anchors(weights)} anchors per location, whose order is unknown; "
            f"only {sizes} sizes of {ratios} aspect ratios can be converted"
        )
    for name in HEAD_OUTPUTS:
        rows = weights[name]
        by_ratio = rows.view(ratios, sizes, -1, *rows.shape[1:])
        weights[name] = by_ratio.transpose(0, 1).reshape(rows.shape)


def select_classes(weights: dict[str, Tensor], classes: Iterable[int]) -> None:
    """Keep the logits of these classes only, in this order, in place."""
    classes, anchors = list(classes), num_anchors(weights)
    for name in CLASS_LOGITS:
        rows = weights[name]
        weights[name] = rows.view(anchors, -1, *rows.shape[1:])[:, classes].flatten(0, 1)
