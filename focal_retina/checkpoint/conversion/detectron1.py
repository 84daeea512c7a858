"""Detectron, the authors' code: ``.pkl`` files of Caffe2 blobs.

Its head is shared by all levels and named after the finest one, ``fpn3``. Its anchors and classes
are in our order, without background. Its batch norm is a scale ("_bn_s") and an offset ("_bn_b").
"""

import re

import torch

from focal_retina.checkpoint.conversion import common

_BOTTOM_UP = "backbone.bottom_up."
NAMES = (
    (r"_(bn_s|w)$", r"_\1.weight"),
    (r"_(bn_b|b)$", r"_\1.bias"),
    (r"_bn_[sb]\.", ".norm."),
    (r"_[wb]\.", "."),
    (r"^(?:res_)?conv1\.", f"{_BOTTOM_UP}stem.conv1."),
    (r"^(res[2-5])_(\d+)_branch1\.", rf"{_BOTTOM_UP}\1.\2.shortcut."),
    (r"^(res[2-5])_(\d+)_branch2", rf"{_BOTTOM_UP}\1.\2.conv"),
    (r"\.conv([abc])\.", lambda m: f".conv{'abc'.index(m[1]) + 1}."),
    (r"^fpn_inner_res([3-5])_\d+_sum(?:_lateral)?\.", r"backbone.fpn_lateral\1."),
    (r"^fpn_res([3-5])_\d+_sum\.", r"backbone.fpn_output\1."),
    (r"^fpn_([67])\.", r"backbone.top_block.p\1."),
    (r"^retnet_cls_pred_fpn3\.", "head.cls_score."),
    (r"^retnet_bbox_pred_fpn3\.", "head.bbox_pred."),
    # A ReLU lies between two convolutions.
    (r"^retnet_(cls|bbox)_conv_n(\d)_fpn3\.", lambda m: f"head.{m[1]}_subnet.{2 * int(m[2])}."),
)
KNOWN_BY = {"retnet_cls_pred_fpn3_w"}
# conv1_b is 0; the rest belongs to ImageNet's classes and to the training.
DROPPED = r"^(conv1_b|fc1000_[wb]|pred_[wb]|lr|weight_order)$|_momentum$"


def convert(weights: dict, checkpoint: dict) -> common.Conversion:
    """Convert a RetinaNet with sigmoid outputs, Detectron's default."""
    converted = common.rename_all(weights, NAMES, DROPPED)
    # A scale and offset are batch norm of mean 0 and variance 1.
    for name in [n for n in converted if n.endswith(".norm.weight")]:
        norm, scale = name.removesuffix("weight"), converted[name]
        converted[norm + "running_mean"] = torch.zeros_like(scale)
        converted[norm + "running_var"] = torch.ones_like(scale) - common.NORM_EPS
    channels, group_channels = converted[f"{_BOTTOM_UP}res2.0.conv2.weight"].shape[:2]
    config = {
        "INPUT.FORMAT": "BGR",
        "MODEL.PIXEL_MEAN": [102.9801, 115.9465, 122.7717],
        "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
        "MODEL.RESNETS.STRIDE_IN_1X1": group_channels == channels,  # no ResNeXt
        "MODEL.ANCHOR_GENERATOR.OFFSET": 0.5,
        "MODEL.FOCAL_RETINA.ROUND_ANCHORS": True,
        "MODEL.FOCAL_RETINA.CLIP_BEFORE_NMS": True,
        "MODEL.FOCAL_RETINA.SCORE_THRESH_TEST_LAST_LEVEL": 0.0,
        "MODEL.FOCAL_RETINA.SIZE_DIVISIBILITY": 128,
        "MODEL.FOCAL_RETINA.LOW_QUALITY_MATCHES": "detectron1",
        "MODEL.FOCAL_RETINA.NORMALIZER": "gpu",
        "MODEL.FOCAL_RETINA.NORMALIZER_OFFSET": 1,
        "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.11,
    }
    text = checkpoint.get("cfg", "")
    text = text if isinstance(text, str) else ""
    if stated := re.search(r"STRIDE_1X1: (true|false)", text, re.IGNORECASE):
        config["MODEL.RESNETS.STRIDE_IN_1X1"] = stated[1].lower() == "true"
    return common.Conversion(converted, config, None, [])
