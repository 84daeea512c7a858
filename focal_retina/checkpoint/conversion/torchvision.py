"""torchvision's ``retinanet_resnet50_fpn`` and ``_v2``.

Its class 0 is background, which a sigmoid head never predicts. Its COCO models have 91 classes, of
which 10 more are ids without a category. Its anchors come in the order (ratio, size).
"""

from focal_retina.checkpoint.conversion.weights import (
    COCO_THINGS,
    NORM_EPS,
    RGB,
    Conversion,
    Renaming,
    add_missing_biases,
    num_classes,
    rename_all,
    resnet_names,
    select_classes,
    transpose_anchors,
)

DROPPED = r"num_batches_tracked$"


def names(has_norm: bool) -> Renaming:
    """Return the renaming. A head with normalisation (v2) has three layers per convolution."""
    step = 3 if has_norm else 2
    return (
        *resnet_names(r"backbone\.body\."),
        *(
            (rf"^backbone\.fpn\.{theirs}_blocks\.{i}\.(?:0\.)?", f"backbone.fpn_{ours}{i + 3}.")
            for theirs, ours in (("inner", "lateral"), ("layer", "output"))
            for i in range(3)
        ),
        (r"^backbone\.fpn\.extra_blocks\.", "backbone.top_block."),
        (r"^head\.classification_head\.cls_logits\.", "head.cls_score."),
        (r"^head\.regression_head\.bbox_reg\.", "head.bbox_pred."),
        (r"^head\.classification_head\.conv\.", "head.cls_subnet.conv."),
        (r"^head\.regression_head\.conv\.", "head.bbox_subnet.conv."),
        *((rf"subnet\.conv\.{i}\.0\.", f"subnet.{step * i}.") for i in range(8)),
        *((rf"subnet\.conv\.{i}\.1\.", f"subnet.{step * i + 1}.") for i in range(8)),
        # Files older than torchvision 0.13, such as COCO_V1, count the ReLUs as we do.
        (r"subnet\.conv\.(\d)\.(weight|bias)$", r"subnet.\1.\2"),
    )


def recognise(names: set[str]) -> bool:
    return "head.classification_head.cls_logits.weight" in names


def convert(weights: dict, checkpoint: dict, norm_eps: float = NORM_EPS) -> Conversion:
    """Convert v1 or v2, of any ResNet.

    Args:
        norm_eps: what torchvision adds to the variance of batch norm; 0 in models that were built
            with the weights COCO_V1.
    """
    has_norm = "head.classification_head.conv.0.1.weight" in weights
    converted = rename_all(weights, names(has_norm), DROPPED)
    add_missing_biases(converted)
    transpose_anchors(converted)
    for name in [n for n in converted if n.endswith("running_var")]:
        converted[name] += norm_eps - NORM_EPS
    class_names = None
    if num_classes(converted) == 91:
        select_classes(converted, COCO_THINGS)
        class_names = list(COCO_THINGS.values())
    else:
        select_classes(converted, range(1, num_classes(converted)))
    config = {
        **RGB,
        "MODEL.ANCHOR_GENERATOR.NAME": "TorchvisionAnchorGenerator",
        "MODEL.FOCAL_RETINA.CLIP_BEFORE_NMS": True,
        "MODEL.FOCAL_RETINA.NORMALIZER": "image",
        "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": "giou" if has_norm else "smooth_l1",
        "TEST.DETECTIONS_PER_IMAGE": 300,
    }
    return Conversion(converted, config, class_names, [])
