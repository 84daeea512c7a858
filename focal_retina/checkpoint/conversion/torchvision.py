"""torchvision's ``retinanet_resnet50_fpn`` and ``_v2``.

By convention its class 0 is background, which a sigmoid head never predicts; some models, such as
DeepForest's, have none. Its COCO models have 91 classes, of which 10 more are ids without a
category. Its anchors come in the order (ratio, size).
"""

from focal_retina.checkpoint.conversion import common
from focal_retina.errors import UserError

_COCO_CLASSES = 91
KNOWN_BY = {"head.classification_head.cls_logits.weight"}
DROPPED = r"num_batches_tracked$"


def names(has_norm: bool) -> common.Renaming:
    """Return the renaming. A head with normalisation (v2) has three layers per convolution."""
    step = 3 if has_norm else 2
    return (
        *common.resnet_names(r"backbone\.body\."),
        (r"^backbone\.fpn\.inner_blocks\.(\d)\.(0\.)?", lambda m: common.fpn_name("lateral", m[1])),
        (r"^backbone\.fpn\.layer_blocks\.(\d)\.(0\.)?", lambda m: common.fpn_name("output", m[1])),
        (r"^backbone\.fpn\.extra_blocks\.", "backbone.top_block."),
        (r"^head\.classification_head\.cls_logits\.", "head.cls_score."),
        (r"^head\.regression_head\.bbox_reg\.", "head.bbox_pred."),
        (r"^head\.classification_head\.conv\.", "head.cls_subnet.conv."),
        (r"^head\.regression_head\.conv\.", "head.bbox_subnet.conv."),
        (r"subnet\.conv\.(\d)\.([01])\.", lambda m: f"subnet.{step * int(m[1]) + int(m[2])}."),
        # Files older than torchvision 0.13, such as COCO_V1, count the ReLUs as we do.
        (r"subnet\.conv\.(\d)\.(weight|bias)$", r"subnet.\1.\2"),
    )


def convert(
    weights: dict,
    checkpoint: dict,
    norm_eps: float = common.NORM_EPS,
    background: bool | None = None,
) -> common.Conversion:
    """Convert v1 or v2, of any ResNet.

    Args:
        norm_eps: torchvision adds it to the variance of batch norm: 0 in models built with COCO_V1.
        background: class 0 is background; None: it is if there are 91 classes, and else a
            UserError asks for it.
    """
    has_norm = "head.classification_head.conv.0.1.weight" in weights
    converted = common.rename_all(weights, names(has_norm), DROPPED)
    common.add_missing_biases(converted)
    common.transpose_anchors(converted)
    for name in [n for n in converted if n.endswith("running_var")]:
        converted[name] += norm_eps - common.NORM_EPS
    count = common.num_classes(converted)
    if background is None and count != _COCO_CLASSES:
        raise UserError(
            f"it has {count} classes: say with --background yes or no whether the first of them is "
            "background, as torchvision's own training counts, or an object"
        )
    is_coco = count == _COCO_CLASSES and background is not False
    if background and count == 1:
        raise UserError("its only class is background: with --background no it is an object")
    kept = common.COCO_THINGS if is_coco else range(bool(background), count)
    common.select_classes(converted, kept)
    config = {
        **common.RGB,
        "MODEL.ANCHOR_GENERATOR.NAME": "TorchvisionAnchorGenerator",
        "MODEL.FOCAL_RETINA.CLIP_BEFORE_NMS": True,
        "MODEL.FOCAL_RETINA.NORMALIZER": "image",
        "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": "giou" if has_norm else "smooth_l1",
        "TEST.DETECTIONS_PER_IMAGE": 300,
    }
    class_names = common.COCO_NAMES if is_coco else _label_names(checkpoint.get("label_dict"))
    return common.Conversion(converted, config, class_names, [])


def _label_names(labels: object) -> list | None:
    """Return the names in the order of their numbers, as DeepForest has them in its checkpoints."""
    if not isinstance(labels, dict):
        return None
    by_number = {number: name for name, number in dict.items(labels)}
    return [by_number.get(number) for number in range(len(labels))]
