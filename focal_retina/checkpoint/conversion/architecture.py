"""Tell the config of a detector from the shapes of its weights."""

import re

from torch import Tensor

from focal_retina.checkpoint.conversion import common
from focal_retina.errors import UserError

# (blocks of each stage, convolutions of a block) -> depth.
_DEPTHS: dict[tuple[tuple[int, ...], int], int] = {
    ((2, 2, 2, 2), 2): 18,
    ((3, 4, 6, 3), 2): 34,
    ((3, 4, 6, 3), 3): 50,
    ((3, 4, 23, 3), 3): 101,
    ((3, 8, 36, 3), 3): 152,
}
# What all sources and the paper have in common.
_SHARED = {
    "VERSION": 2,
    "MODEL.META_ARCHITECTURE": "FocalRetinaNet",
    "MODEL.BACKBONE.NAME": "build_focal_retina_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res3", "res4", "res5"],
    "MODEL.ANCHOR_GENERATOR.NAME": "OctaveAnchorGenerator",
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    "MODEL.ANCHOR_GENERATOR.OFFSET": 0.0,
    "MODEL.RETINANET.IOU_THRESHOLDS": [0.4, 0.5],
    "MODEL.RETINANET.IOU_LABELS": [0, -1, 1],
    "INPUT.MIN_SIZE_TRAIN": [640, 672, 704, 736, 768, 800],
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.STEPS": [60000, 80000],
    "SOLVER.MAX_ITER": 90000,
}


def config_of(weights: dict[str, Tensor]) -> dict[str, object]:
    """Return dotted keys and values; FPN's and the head's only where the weights have them."""
    config = {**_SHARED, **_resnet(weights)}
    if "backbone.fpn_lateral3.weight" in weights:
        channels, res5_channels = weights["backbone.fpn_lateral5.weight"].shape[:2]
        p6_channels = weights["backbone.top_block.p6.weight"].shape[1]
        # If P5 has as many channels as C5, torchvision takes P5, too.
        from_c5 = p6_channels == res5_channels != channels
        config["MODEL.FPN.OUT_CHANNELS"] = channels
        config["MODEL.FOCAL_RETINA.P6_FROM"] = "c5" if from_c5 else "p5"
    if "head.cls_score.weight" in weights:
        config |= _head(weights)
    return config


def _resnet(weights: dict[str, Tensor]) -> dict[str, object]:
    blocks = tuple(
        len({m[1] for n in weights if (m := re.search(rf"bottom_up\.res{stage}\.(\d+)\.", n))})
        for stage in (2, 3, 4, 5)
    )
    convs = len({m[1] for n in weights if (m := re.search(r"res2\.0\.conv(\d)\.weight", n))})
    if (blocks, convs) not in _DEPTHS:
        raise UserError(
            f"the backbone has {blocks} blocks of {convs} convolutions; a ResNet-18, -34, -50, "
            "-101 or -152 or a ResNeXt of the same blocks can be converted"
        )
    stem, res2 = "backbone.bottom_up.stem", "backbone.bottom_up.res2.0"
    config: dict[str, object] = {
        "MODEL.RESNETS.DEPTH": _DEPTHS[blocks, convs],
        "MODEL.RESNETS.STEM_OUT_CHANNELS": len(weights[f"{stem}.conv1.weight"]),
        "MODEL.RESNETS.RES2_OUT_CHANNELS": len(weights[f"{res2}.conv{convs}.weight"]),
    }
    if convs == 3:
        width, group_width = weights[f"{res2}.conv2.weight"].shape[:2]
        config["MODEL.RESNETS.NUM_GROUPS"] = width // group_width
        config["MODEL.RESNETS.WIDTH_PER_GROUP"] = group_width
    return config


def _head(weights: dict[str, Tensor]) -> dict[str, object]:
    layers = [w for n, w in weights.items() if re.match(r"head\.cls_subnet\.\d+\.weight", n)]
    has_norm = any(w.dim() == 1 for w in layers)
    return {
        "MODEL.RETINANET.NUM_CLASSES": common.num_classes(weights),
        "MODEL.RETINANET.NUM_CONVS": sum(w.dim() == 4 for w in layers),
        "MODEL.RETINANET.NORM": "GN" if has_norm else "",
    }
