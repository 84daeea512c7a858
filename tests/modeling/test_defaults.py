"""A part has the same defaults by hand as by a config, and every key reaches its part."""

import inspect
from itertools import product

import pytest
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from detectron2.modeling.backbone.fpn import LastLevelP6P7
from helpers.batches import detectron2_retinanet_config
from helpers.small_models import tiny_model
from torch import nn

from focal_retina.config import focal_retina_defaults
from focal_retina.modeling import backbones
from focal_retina.modeling import classification as losses
from focal_retina.modeling.anchors import OctaveAnchorGenerator, TorchvisionAnchorGenerator
from focal_retina.modeling.assignment import AnchorAssigner
from focal_retina.modeling.head import FocalRetinaHead
from focal_retina.modeling.losses import FocalRetinaLoss
from focal_retina.modeling.normalizer import LossNormalizer
from focal_retina.modeling.postprocess import DetectionPostprocessor
from focal_retina.modeling.preprocess import ImagePreprocessor
from focal_retina.modeling.proposal_postprocess import ProposalPostprocessor
from focal_retina.modeling.selection import HardExampleSelection, build_example_selection

LOSSES = {
    "focal": losses.SigmoidFocalLoss,
    "focal_star": losses.SigmoidFocalLossStar,
    "hinge": losses.HingeLoss,
    "softmax_focal": losses.SoftmaxFocalLoss,
}
NAMES = {loss: name for name, loss in LOSSES.items()}
RETINANET, NODE, ANCHORS = "MODEL.RETINANET.", "MODEL.FOCAL_RETINA.", "MODEL.ANCHOR_GENERATOR."
# Part -> its arguments, each with its key and a value that is not the default.
KEYS = {
    AnchorAssigner: {
        "num_classes": (RETINANET + "NUM_CLASSES", 7),
        "thresholds": (RETINANET + "IOU_THRESHOLDS", [0.3, 0.6]),
        "labels": (RETINANET + "IOU_LABELS", [-1, 0, 1]),
        "low_quality_matches": (NODE + "LOW_QUALITY_MATCHES", "none"),
        "backend": (NODE + "BACKEND", "torch"),
    },
    DetectionPostprocessor: {
        "num_classes": (RETINANET + "NUM_CLASSES", 7),
        "score_thresh": (RETINANET + "SCORE_THRESH_TEST", 0.2),
        "score_thresh_last_level": (NODE + "SCORE_THRESH_TEST_LAST_LEVEL", 0.1),
        "topk_candidates": (RETINANET + "TOPK_CANDIDATES_TEST", 7),
        "nms_thresh": (RETINANET + "NMS_THRESH_TEST", 0.7),
        "max_detections": ("TEST.DETECTIONS_PER_IMAGE", 7),
        "clip_before_nms": (NODE + "CLIP_BEFORE_NMS", True),
        "backend": (NODE + "BACKEND", "torch"),
    },
    FocalRetinaHead: {
        "conv_dims": (RETINANET + "NUM_CONVS", 2),
        "norm": (RETINANET + "NORM", "GN"),
        "prior_prob": (RETINANET + "PRIOR_PROB", 0.1),
    },
    FocalRetinaLoss: {
        "box_reg_loss_type": (RETINANET + "BBOX_REG_LOSS_TYPE", "giou"),
        "smooth_l1_beta": (RETINANET + "SMOOTH_L1_LOSS_BETA", 0.1),
        "backend": (NODE + "BACKEND", "torch"),
    },
    HardExampleSelection: {
        "batch_size": (NODE + "OHEM_BATCH_SIZE", 7),
        "nms_thresh": (NODE + "OHEM_NMS_THRESH", 0.7),
        "one_to_three": (NODE + "EXAMPLE_SELECTION", "ohem_1_3"),
    },
    ImagePreprocessor: {
        "input_format": ("INPUT.FORMAT", "RGB"),
        "size_divisibility": (NODE + "SIZE_DIVISIBILITY", 128),
        "channels_last": (NODE + "CHANNELS_LAST", False),
    },
    LossNormalizer: {
        "kind": (NODE + "NORMALIZER", "gpu"),
        "offset": (NODE + "NORMALIZER_OFFSET", 1),
    },
    OctaveAnchorGenerator: {
        "base_sizes": (ANCHORS + "SIZES", [[8]]),
        "aspect_ratios": (ANCHORS + "ASPECT_RATIOS", [[2.0]]),
        "offset": (ANCHORS + "OFFSET", 0.5),
        "scales_per_octave": (NODE + "SCALES_PER_OCTAVE", 2),
        "round_sides": (NODE + "ROUND_ANCHORS", True),
    },
    ProposalPostprocessor: {
        "nms_thresh": ("MODEL.RPN.NMS_THRESH", 0.6),
        "min_box_size": ("MODEL.PROPOSAL_GENERATOR.MIN_SIZE", 3),
    },
    TorchvisionAnchorGenerator: {"base_sizes": (ANCHORS + "SIZES", [[8]])},
}
# Of these values, the argument is another one.
ARGUMENTS = {RETINANET + "NUM_CONVS": [256] * 2, NODE + "EXAMPLE_SELECTION": True}
ROWS = [(part, name, *row) for part, arguments in KEYS.items() for name, row in arguments.items()]
# Losses, an argument of theirs, its key, and a value that is not the default.
LOSS_KEYS = [
    *product(LOSSES, ["num_classes"], [RETINANET + "NUM_CLASSES"], [7]),
    *product({*LOSSES} - {"hinge"}, ["gamma"], [RETINANET + "FOCAL_LOSS_GAMMA"], [1.5]),
    *product({*LOSSES} - {"focal_star"}, ["alpha"], [RETINANET + "FOCAL_LOSS_ALPHA"], [0.4]),
    *product({*LOSSES} - {"focal_star"}, ["alpha"], [NODE + "CLASS_ALPHA"], [[0.25] * 80]),
    *product(["focal", "focal_star"], ["backend"], [NODE + "BACKEND"], ["torch"]),
    ("focal_star", "beta", NODE + "FOCAL_STAR_BETA", 0.5),
]
# Key of a whole model, a value that is not the default, and where it is seen.
MODEL_KEYS = [
    (NODE + "P6_FROM", "p5", lambda model: model.backbone.top_block.in_feature),
    (NODE + "P7_RELU", False, lambda model: type(model.backbone.top_block) is LastLevelP6P7),
    (NODE + "CPU_ACCELERATION", False, lambda model: model.cpu_acceleration),
    (NODE + "CLS_LOSS", "hinge", lambda model: NAMES[type(model.loss.cls_loss)]),
    (NODE + "COMPILE", True, lambda model: hasattr(model.head, "compiled")),
    ("VIS_PERIOD", 7, lambda model: model.monitor.vis_period),
]
# Key of a backbone -> the argument that it reaches, and a value that is not the default.
REGNET, TIMM = NODE + "REGNET.", NODE + "TIMM."
BACKBONE_KEYS = {
    **{REGNET + name: (name.lower(), 8) for name in ("STEM_WIDTH", "DEPTH", "GROUP_WIDTH", "W_0")},
    **{REGNET + name: (name.lower(), 0.25) for name in ("W_A", "W_M", "SE_RATIO")},
    REGNET + "NORM": ("norm", "BN"),
    TIMM + "NAME": ("name", "resnet18"),
    TIMM + "PRETRAINED": ("pretrained", True),
    TIMM + "FREEZE_BN": ("freeze_bn", True),
    TIMM + "OPTIONS": ("options", CfgNode({"in_chans": 3})),
}


def from_config(part, overrides=None):
    shapes = [ShapeSpec(channels=256, stride=8 * 2**i) for i in range(5)]
    takes_shapes = "input_shape" in inspect.signature(part.from_config).parameters
    cfg = detectron2_retinanet_config(overrides)
    return part.from_config(cfg, *([shapes] if takes_shapes else []))


def defaults_of(part):
    parameters = inspect.signature(part).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def plain(value):
    """Return numbers as one list, whether they are for each level or for all."""
    flat = value[0] if isinstance(value, list) and isinstance(value[0], list) else value
    return list(flat) if isinstance(flat, list | tuple) else flat


@pytest.mark.parametrize("part", KEYS)
def test_the_defaults_of_the_constructor_are_those_of_the_config(part):
    defaults, configured = defaults_of(part), from_config(part)
    shared = defaults.keys() & configured.keys()
    assert shared
    assert {k: plain(configured[k]) for k in shared} == {k: plain(defaults[k]) for k in shared}


@pytest.mark.parametrize("name", LOSSES)
def test_the_defaults_of_a_loss_are_those_of_the_config(name):
    cfg = detectron2_retinanet_config({NODE + "CLS_LOSS": name})
    built, by_hand = losses.build_classification_loss(cfg), LOSSES[name](num_classes=80)
    assert type(built) is type(by_hand)
    for attribute in defaults_of(LOSSES[name]):
        assert getattr(built, attribute) == getattr(by_hand, attribute), attribute


def test_the_defaults_of_a_timm_backbone_are_those_of_the_config():
    node, defaults = focal_retina_defaults().TIMM, defaults_of(backbones.TimmBackbone)
    assert defaults == {"pretrained": node.PRETRAINED, "freeze_bn": node.FREEZE_BN}


@pytest.mark.parametrize(("part", "argument", "key", "value"), ROWS)
def test_each_key_reaches_the_argument_of_its_part(part, argument, key, value):
    expected = ARGUMENTS.get(key, value)
    assert from_config(part)[argument] != expected
    assert from_config(part, {key: value})[argument] == expected
    assert argument in inspect.signature(part).parameters  # the name in a LazyConfig


@pytest.mark.parametrize(("name", "argument", "key", "value"), LOSS_KEYS)
def test_each_key_reaches_its_loss(name, argument, key, value):
    loss = losses.build_classification_loss(
        detectron2_retinanet_config({NODE + "CLS_LOSS": name, key: value})
    )
    assert type(loss) is LOSSES[name]
    found = getattr(loss, argument)
    assert (found.tolist() if isinstance(value, list) else found) == value
    assert argument in inspect.signature(LOSSES[name]).parameters


@pytest.mark.parametrize(("key", "value", "seen"), MODEL_KEYS)
def test_each_key_of_the_whole_model_changes_it(monkeypatch, key, value, seen):
    monkeypatch.setattr(nn.Module, "compile", lambda self: setattr(self, "compiled", True))
    ours = {"MODEL.BACKBONE.NAME": "build_focal_retina_resnet_fpn_backbone"}
    assert seen(tiny_model(ours)) != value
    assert seen(tiny_model({**ours, key: value})) == value


@pytest.mark.parametrize("key", BACKBONE_KEYS)
def test_each_key_of_a_backbone_reaches_its_argument(monkeypatch, key):
    kind, name = ("regnet", "RegNet") if key.startswith(REGNET) else ("timm", "TimmBackbone")
    signature = inspect.signature(getattr(backbones, name))

    def build(*args, **kwargs):
        raise InterruptedError(signature.bind(*args, **kwargs).arguments)

    def arguments(overrides):
        node = {"MODEL.BACKBONE.NAME": f"build_focal_retina_{kind}_fpn_backbone"}
        features = {"MODEL.FPN.IN_FEATURES": ["s2", "s3", "s4"]}
        with pytest.raises(InterruptedError) as built:
            build_backbone(detectron2_retinanet_config({**node, **features, **overrides}))
        return built.value.args[0]

    monkeypatch.setattr(backbones, name, build)
    argument, value = BACKBONE_KEYS[key]
    assert arguments({}).get(argument) != value
    assert arguments({key: value})[argument] == value


def keys_of(node, prefix):
    for name, value in node.items():
        is_leaf = not isinstance(value, CfgNode) or name == "OPTIONS"
        yield from [prefix + name] if is_leaf else keys_of(value, f"{prefix}{name}.")


def test_no_key_is_missing_above():
    tested = {key for _, _, key, _ in ROWS + LOSS_KEYS} | {key for key, *_ in MODEL_KEYS}
    assert set(keys_of(focal_retina_defaults(), NODE)) <= tested | BACKBONE_KEYS.keys()


def test_example_selection_off_is_none():
    assert build_example_selection(detectron2_retinanet_config()) is None
