"""Detectron2's RetinaNet, and FocalRetinaNet: the names are ours already."""

from focal_retina.checkpoint.conversion import common

KNOWN_BY = {"head.cls_score.weight", "backbone.fpn_lateral3.weight"}
# Buffers of older releases, which a config decides, and of the training.
DROPPED = r"^(anchor_generator|pixel_)|num_batches_tracked$|^loss_normalizer$|^loss\."


def convert(weights: dict, checkpoint: dict) -> common.Conversion:
    """Return the weights as they are.

    The config is that of Detectron2's ``Base-RetinaNet.yaml``. A model of other settings needs its
    own config.
    """
    note = (
        "took Detectron2's usual settings: BGR pixels of standard deviation 1, strides in the 1x1 "
        "convolutions, and its anchors; the model's own config knows better"
    )
    config = {
        "INPUT.FORMAT": "BGR",
        "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675],
        "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
        "MODEL.RESNETS.STRIDE_IN_1X1": True,
    }
    class_names = checkpoint.get("class_names")
    return common.Conversion(common.rename_all(weights, (), DROPPED), config, class_names, [note])
