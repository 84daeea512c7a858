"""A part has the same defaults by hand as by a config, and every key reaches its part."""

import inspect

import pytest
from detectron2.layers import ShapeSpec
from helpers.batches import detectron2_retinanet_config

from focal_retina.modeling.anchors import OctaveAnchorGenerator, TorchvisionAnchorGenerator
from focal_retina.modeling.assignment import AnchorAssigner
from focal_retina.modeling.backbones import TimmBackbone
from focal_retina.modeling.classification import (
    HingeLoss,
    SigmoidFocalLoss,
    SigmoidFocalLossStar,
    SoftmaxFocalLoss,
    build_classification_loss,
)
from focal_retina.modeling.head import FocalRetinaHead
from focal_retina.modeling.losses import FocalRetinaLoss
from focal_retina.modeling.normalizer import LossNormalizer
from focal_retina.modeling.postprocess import DetectionPostprocessor
from focal_retina.modeling.preprocess import ImagePreprocessor
from focal_retina.modeling.proposal_postprocess import ProposalPostprocessor
from focal_retina.modeling.selection import HardExampleSelection

SHAPES = [ShapeSpec(channels=256, stride=8 * 2**i) for i in range(5)]
# Part -> what its from_config takes besides the config.
PARTS = {
    AnchorAssigner: (),
    DetectionPostprocessor: (),
    FocalRetinaHead: (SHAPES,),
    FocalRetinaLoss: (),
    HardExampleSelection: (),
    ImagePreprocessor: (),
    LossNormalizer: (),
    OctaveAnchorGenerator: (SHAPES,),
    ProposalPostprocessor: (),
    TorchvisionAnchorGenerator: (SHAPES,),
}
LOSSES = {
    "focal": SigmoidFocalLoss,
    "focal_star": SigmoidFocalLossStar,
    "hinge": HingeLoss,
    "softmax_focal": SoftmaxFocalLoss,
}
RETINANET, NODE = "MODEL.RETINANET.", "MODEL.FOCAL_RETINA."
# Part, argument, its key, and a value that is not the default.
KEYS = [
    (AnchorAssigner, "num_classes", RETINANET + "NUM_CLASSES", 7),
    (AnchorAssigner, "thresholds", RETINANET + "IOU_THRESHOLDS", [0.3, 0.6]),
    (AnchorAssigner, "labels", RETINANET + "IOU_LABELS", [-1, 0, 1]),
    (AnchorAssigner, "low_quality_matches", NODE + "LOW_QUALITY_MATCHES", "none"),
    (AnchorAssigner, "backend", NODE + "BACKEND", "torch"),
    (DetectionPostprocessor, "num_classes", RETINANET + "NUM_CLASSES", 7),
    (DetectionPostprocessor, "score_thresh", RETINANET + "SCORE_THRESH_TEST", 0.2),
    (DetectionPostprocessor, "score_thresh_last_level", NODE + "SCORE_THRESH_TEST_LAST_LEVEL", 0.1),
    (DetectionPostprocessor, "topk_candidates", RETINANET + "TOPK_CANDIDATES_TEST", 7),
    (DetectionPostprocessor, "nms_thresh", RETINANET + "NMS_THRESH_TEST", 0.7),
    (DetectionPostprocessor, "max_detections", "TEST.DETECTIONS_PER_IMAGE", 7),
    (DetectionPostprocessor, "clip_before_nms", NODE + "CLIP_BEFORE_NMS", True),
    (DetectionPostprocessor, "backend", NODE + "BACKEND", "torch"),
    (FocalRetinaHead, "conv_dims", RETINANET + "NUM_CONVS", [256] * 2),
    (FocalRetinaHead, "norm", RETINANET + "NORM", "GN"),
    (FocalRetinaHead, "prior_prob", RETINANET + "PRIOR_PROB", 0.1),
    (FocalRetinaLoss, "box_reg_loss_type", RETINANET + "BBOX_REG_LOSS_TYPE", "giou"),
    (FocalRetinaLoss, "smooth_l1_beta", RETINANET + "SMOOTH_L1_LOSS_BETA", 0.1),
    (FocalRetinaLoss, "backend", NODE + "BACKEND", "torch"),
    (HardExampleSelection, "batch_size", NODE + "OHEM_BATCH_SIZE", 7),
    (HardExampleSelection, "nms_thresh", NODE + "OHEM_NMS_THRESH", 0.7),
    (LossNormalizer, "kind", NODE + "NORMALIZER", "gpu"),
    (LossNormalizer, "offset", NODE + "NORMALIZER_OFFSET", 1),
    (OctaveAnchorGenerator, "base_sizes", "MODEL.ANCHOR_GENERATOR.SIZES", [[8]]),
    (OctaveAnchorGenerator, "aspect_ratios", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [[2.0]]),
    (OctaveAnchorGenerator, "offset", "MODEL.ANCHOR_GENERATOR.OFFSET", 0.5),
    (OctaveAnchorGenerator, "scales_per_octave", NODE + "SCALES_PER_OCTAVE", 2),
    (OctaveAnchorGenerator, "round_sides", NODE + "ROUND_ANCHORS", True),
    (ProposalPostprocessor, "nms_thresh", "MODEL.RPN.NMS_THRESH", 0.6),
    (ProposalPostprocessor, "min_box_size", "MODEL.PROPOSAL_GENERATOR.MIN_SIZE", 3),
]
# Loss, its attribute, the key, and a value that is not the default.
LOSS_KEYS = [
    *[(x, "num_classes", RETINANET + "NUM_CLASSES", 7) for x in LOSSES],
    *[(name, "gamma", RETINANET + "FOCAL_LOSS_GAMMA", 1.5) for name in set(LOSSES) - {"hinge"}],
    *[
        (name, "alpha", RETINANET + "FOCAL_LOSS_ALPHA", 0.4)
        for name in set(LOSSES) - {"focal_star"}
    ],
    *[(x, "backend", NODE + "BACKEND", "torch") for x in ("focal", "focal_star")],
    ("focal_star", "beta", NODE + "FOCAL_STAR_BETA", 0.5),
]


def from_config(part, overrides=None):
    return part.from_config(detectron2_retinanet_config(overrides), *PARTS[part])


def plain(value):
    """Return numbers as one list, whether they are for each level or for all."""
    flat = value[0] if isinstance(value, list) and isinstance(value[0], list) else value
    return list(flat) if isinstance(flat, list | tuple) else flat


@pytest.mark.parametrize("part", PARTS)
def test_the_defaults_of_the_constructor_are_those_of_the_config(part):
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(part.__init__.__wrapped__).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    configured = from_config(part)
    assert defaults
    shared = defaults.keys() & configured.keys()
    assert {k: plain(configured[k]) for k in shared} == {k: plain(defaults[k]) for k in shared}


@pytest.mark.parametrize("name", LOSSES)
def test_the_defaults_of_a_loss_are_those_of_the_config(name):
    built = build_classification_loss(detectron2_retinanet_config({NODE + "CLS_LOSS": name}))
    by_hand = LOSSES[name](num_classes=80)
    assert type(built) is type(by_hand)
    for attribute in {"alpha", "gamma", "beta", "threshold", "backend"} & by_hand.__dict__.keys():
        assert getattr(built, attribute) == getattr(by_hand, attribute), attribute


def test_the_defaults_of_a_timm_backbone_are_those_of_the_config():
    node = detectron2_retinanet_config().MODEL.FOCAL_RETINA.TIMM
    parameters = inspect.signature(TimmBackbone.__init__).parameters
    assert parameters["pretrained"].default == node.PRETRAINED
    assert parameters["freeze_bn"].default == node.FREEZE_BN


@pytest.mark.parametrize(("part", "argument", "key", "value"), KEYS)
def test_each_key_reaches_the_argument_of_its_part(part, argument, key, value):
    key_value = {RETINANET + "NUM_CONVS": 2}.get(key, value)
    assert from_config(part)[argument] != value
    assert from_config(part, {key: key_value})[argument] == value


@pytest.mark.parametrize(("name", "attribute", "key", "value"), LOSS_KEYS)
def test_each_key_reaches_its_loss(name, attribute, key, value):
    cfg = detectron2_retinanet_config({NODE + "CLS_LOSS": name, key: value})
    loss = build_classification_loss(cfg)
    assert type(loss) is LOSSES[name]
    assert getattr(loss, attribute) == value
