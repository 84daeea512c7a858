"""Convert ``FocalRetinaNet`` to torchvision's ``retinanet_resnet50_fpn`` or ``_v2``."""

from operator import attrgetter

import torch
from detectron2.config import CfgNode
from torch import Tensor
from torchvision.models import detection

from focal_retina.checkpoint.conversion import common
from focal_retina.checkpoint.conversion.torchvision import names
from focal_retina.errors import UserError

# Settings of torchvision's models, which a config must have.
REQUIRED = {
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.NUM_GROUPS": 1,
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.ANCHOR_GENERATOR.NAME": "TorchvisionAnchorGenerator",
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    "MODEL.FOCAL_RETINA.SCALES_PER_OCTAVE": 3,
    "MODEL.FOCAL_RETINA.P7_RELU": True,
}
# The logit of a class that does not exist: a score of 2e-9, below any threshold.
_NEVER = -20.0


def to_torchvision(
    weights: dict[str, Tensor], cfg: CfgNode, class_names: list[str] | None
) -> tuple[dict[str, Tensor], str]:
    """Return weights for ``load_state_dict``, and the Python call of the model they are for.

    The 80 classes of COCO, or 80 without names, go to their places among torchvision's 91. A
    UserError names what torchvision's models lack.
    """
    for key, required in REQUIRED.items():
        if (value := attrgetter(key)(cfg)) != required:
            raise UserError(f"{key} is {value!r}, but torchvision's RetinaNet has {required!r}")
    # v2 is the one with normalisation in the head, and P6 from C5.
    variant = {("p5", ""): "", ("c5", "GN"): "_v2"}
    parts = (cfg.MODEL.FOCAL_RETINA.P6_FROM, cfg.MODEL.RETINANET.NORM)
    if parts not in variant:
        raise UserError(
            f"MODEL.FOCAL_RETINA.P6_FROM is {parts[0]!r} and MODEL.RETINANET.NORM {parts[1]!r}, "
            "but torchvision has a RetinaNet with 'p5' and '' and one with 'c5' and 'GN' only"
        )
    count = common.num_classes(weights)
    is_coco = count == 80 and class_names in (None, common.COCO_NAMES)
    places = list(common.COCO_THINGS if is_coco else range(1, count + 1))
    rows = 91 if is_coco else count + 1
    builder = f"retinanet_resnet50_fpn{variant[parts]}"
    with torch.device("meta"):
        model = getattr(detection, builder)(weights_backbone=None, num_classes=rows)
    weights = _with_meaning_of_torchvision(weights, cfg, places, rows)
    # Its pixels are RGB and from 0 to 1.
    order = -1 if cfg.INPUT.FORMAT == "BGR" else 1
    statistics = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
    mean, std = ([round(x / 255, 6) for x in values[::order]] for values in statistics)
    call = f"{builder}(weights=None, weights_backbone=None, num_classes={rows}"
    call += f", image_mean={mean}, image_std={std})"
    return _renamed(weights, model.state_dict(), bool(variant[parts])), call


def _with_meaning_of_torchvision(
    weights: dict[str, Tensor], cfg: CfgNode, places: list[int], rows: int
) -> dict[str, Tensor]:
    """Return new weights: RGB, boxes of weight 1, anchors by ratio, classes at their places."""
    weights = {name: value.clone() for name, value in weights.items()}
    stem = "backbone.bottom_up.stem.conv1.weight"
    if cfg.INPUT.FORMAT == "BGR":
        weights[stem] = weights[stem].flip(1)
    for name in ("head.bbox_pred.weight", "head.bbox_pred.bias"):
        box_weights = torch.tensor(cfg.MODEL.RETINANET.BBOX_REG_WEIGHTS)
        box_weights = box_weights.repeat(common.ANCHORS)
        weights[name] /= box_weights.view(-1, *[1] * (weights[name].dim() - 1))
    common.transpose_anchors(weights)
    for name in common.CLASS_LOGITS:
        by_class = weights[name].unflatten(0, (common.ANCHORS, -1))
        never = _NEVER if weights[name].dim() == 1 else 0.0
        filled = by_class.new_full((len(by_class), rows, *by_class.shape[2:]), never)
        filled[:, places] = by_class
        weights[name] = filled.flatten(0, 1)
    return weights


def _renamed(
    weights: dict[str, Tensor], template: dict[str, Tensor], has_norm: bool
) -> dict[str, Tensor]:
    """Return the weights under the names of a template, all of which must be used."""
    left, converted = dict(weights), {}
    for name, value in template.items():
        if name.endswith("num_batches_tracked"):
            converted[name] = torch.zeros((), dtype=torch.int64)
            continue
        found = left.pop(common.rename(name, names(has_norm)), None)
        if found is None or found.shape != value.shape:
            raise UserError(f"torchvision's {name} {tuple(value.shape)} has no equal in the source")
        converted[name] = found.contiguous()
    for name, value in left.items():
        if value.any():
            raise UserError(
                f"torchvision's model has no place for {name}, which is not 0: its convolutions "
                "before a normalisation have no bias"
            )
    return converted
