"""A part refuses what is beyond a limit, by the names of argument and key, and takes the limit."""

from functools import partial

import pytest
from detectron2.layers import ShapeSpec
from helpers.batches import detectron2_retinanet_config
from helpers.small_models import tiny_model

from focal_retina import FocalRetinaHead, OctaveAnchorGenerator, TorchvisionAnchorGenerator
from focal_retina.errors import UserError
from focal_retina.modeling import classification as losses
from focal_retina.modeling.normalizer import LossNormalizer
from focal_retina.modeling.selection import HardExampleSelection, build_example_selection

SHAPES = [ShapeSpec(channels=16, stride=s) for s in (8, 16, 32)]
ANCHORS = {"base_sizes": [[32], [64]], "strides": [8, 16]}
Octave = partial(OctaveAnchorGenerator, **ANCHORS)
Torchvision = partial(TorchvisionAnchorGenerator, **ANCHORS)
Focal = partial(losses.SigmoidFocalLoss, num_classes=3)
Star = partial(losses.SigmoidFocalLossStar, num_classes=3)
Hinge = partial(losses.HingeLoss, num_classes=3)
Softmax = partial(losses.SoftmaxFocalLoss, num_classes=3)
Head = partial(FocalRetinaHead, input_shape=SHAPES, num_classes=5, num_anchors=9, conv_dims=[16])
Ohem = HardExampleSelection
GAMMA = r"gamma \(MODEL.RETINANET.FOCAL_LOSS_GAMMA\)"
ALPHA = r"alpha \(MODEL.RETINANET.FOCAL_LOSS_ALPHA\)"
SIZES = "MODEL.ANCHOR_GENERATOR.SIZES"


def model(**keys):
    return tiny_model({f"MODEL.{key.replace('__', '.')}": value for key, value in keys.items()})


# What is built, what it refuses, what it takes, and what the sentence names.
LIMITS = [
    (Focal, {"gamma": -0.1}, {"gamma": 0.0}, GAMMA),
    (Focal, {"gamma": float("nan")}, {"gamma": 0.0}, "gamma"),
    (Focal, {"alpha": 1.1}, {"alpha": 1.0}, ALPHA),
    (Focal, {"alpha": -0.1}, {"alpha": 0.0}, ALPHA),
    (Focal, {"alpha": [0.1] * 2}, {"alpha": [0.1] * 3}, "alpha .*CLASS_ALPHA"),
    (Focal, {"alpha": [1.1] * 3}, {"alpha": [1.0] * 3}, "alpha .*CLASS_ALPHA"),
    (Star, {"gamma": 0.0}, {"gamma": 0.5}, "gamma of FL. .*FOCAL_LOSS_GAMMA"),
    (Hinge, {"threshold": 0.0}, {"threshold": 0.01}, "threshold"),
    (Hinge, {"threshold": 1.1}, {"threshold": 1.0}, "threshold"),
    (Hinge, {"alpha": 1.1}, {"alpha": 1.0}, "alpha"),
    (Softmax, {"gamma": -0.1}, {"gamma": 0.0}, "gamma"),
    (Softmax, {"alpha": 1.1}, {"alpha": None}, "alpha"),
    (Ohem, {"batch_size": 0}, {"batch_size": 1}, "batch_size .*OHEM_BATCH_SIZE"),
    (Ohem, {"nms_thresh": -0.1}, {"nms_thresh": 0}, "nms_thresh .*OHEM_NMS_THRESH"),
    (Ohem, {"nms_thresh": 1.1}, {"nms_thresh": 1}, "nms_thresh"),
    (Ohem, {"nms_over": "rois"}, {"nms_over": "boxes"}, "nms_over"),
    (Ohem, {"scope": "gpu"}, {"scope": "batch"}, "scope"),
    (Ohem, {"normalizer": "ema"}, {"normalizer": "foreground"}, "normalizer"),
    (LossNormalizer, {"kind": "batch"}, {}, "NORMALIZER.*batch.*image, gpu, all_gpus, ema"),
    (Head, {"num_classes": 0}, {"num_classes": 1}, "num_classes .MODEL.RETINANET.NUM_CLASSES"),
    (Head, {"prior_prob": 1.0}, {"prior_prob": 0.99}, "prior_prob .MODEL.RETINANET.PRIOR_PROB"),
    (Head, {"prior_prob": 0.0}, {"prior_prob": 0.01}, "prior_prob"),
    (Head, {"num_anchors": [9, 6]}, {"num_anchors": [9, 9]}, rf"\[9, 6\] anchors per.*{SIZES}"),
    *(
        (generator, *row)
        for generator in (Octave, Torchvision)
        for row in [
            ({"scales_per_octave": 0}, {"scales_per_octave": 1}, "SCALES_PER_OCTAVE"),
            ({"scales_per_octave": 1.5}, {}, "SCALES_PER_OCTAVE"),
            ({"base_sizes": [[32]] * 3}, {"base_sizes": [[32]]}, SIZES),
            ({"base_sizes": []}, {"base_sizes": [32]}, SIZES),
            ({"base_sizes": [[-1.0]]}, {"base_sizes": [[1.0]]}, SIZES),
            ({"aspect_ratios": [0.0]}, {"aspect_ratios": [0.1]}, "ANCHOR_GENERATOR.ASPECT_RATIOS"),
        ]
    ),
    (model, {"RETINANET__BBOX_REG_LOSS_TYPE": "l2"}, {}, "BBOX_REG_LOSS_TYPE.* 'l2'.*ciou"),
    (model, {"RETINANET__FOCAL_LOSS_GAMMA": -1.0}, {}, GAMMA),
    (model, {"RETINANET__IN_FEATURES": ["p3", "p9"]}, {}, "IN_FEATURES.* has p9, .*has p3, p4"),
    (model, {"FOCAL_RETINA__NORMALIZER": "world"}, {}, "NORMALIZER.* 'world'"),
    (model, {"FOCAL_RETINA__LOW_QUALITY_MATCHES": "best"}, {}, "low_quality_matches"),
    (model, {"FOCAL_RETINA__BACKEND": "cuda"}, {}, "backend 'cuda'"),
    (model, {"FOCAL_RETINA__SIZE_DIVISIBILITY": 48}, {}, "DIVISIBILITY.* 48; .* multiple of 32"),
    (
        partial(model, BACKBONE__NAME="build_focal_retina_resnet_fpn_backbone"),
        {"FOCAL_RETINA__P6_FROM": "p4"},
        {"FOCAL_RETINA__P6_FROM": "p5"},
        "P6_FROM is 'p4'; choose one of c5, p5",
    ),
]


@pytest.mark.parametrize(("build", "refused", "taken", "culprit"), LIMITS)
def test_what_is_beyond_a_limit_is_refused_and_the_limit_is_taken(build, refused, taken, culprit):
    build(**taken)
    with pytest.raises(UserError, match=culprit):
        build(**refused)


@pytest.mark.parametrize(
    ("build", "key"),
    [
        (losses.build_classification_loss, "CLS_LOSS"),
        (build_example_selection, "EXAMPLE_SELECTION"),
    ],
)
def test_an_unknown_name_is_refused(build, key):
    cfg = detectron2_retinanet_config({f"MODEL.FOCAL_RETINA.{key}": "hard"})
    with pytest.raises(UserError, match=f"{key} is 'hard'; choose one of"):
        build(cfg)
