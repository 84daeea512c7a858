"""A part has the same defaults by hand as by a config, and every key reaches its part."""

import importlib
import inspect
from pathlib import Path

import pytest
import yaml
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

NODE = "MODEL.FOCAL_RETINA."
FOLDER = Path(losses.__file__).parent
MODULES = [importlib.import_module(f"focal_retina.modeling.{x.stem}") for x in FOLDER.glob("*.py")]
CONSUMERS = {"FocalRetinaNet", "FocalProposalGenerator"}
# The classes that are built from a config, by name.
PARTS = {
    name: part
    for module in MODULES
    for name, part in sorted(vars(module).items())
    if hasattr(part, "from_config") and part.__module__ == module.__name__ and name not in CONSUMERS
}
LOSSES = {
    "focal": losses.SigmoidFocalLoss,
    "focal_star": losses.SigmoidFocalLossStar,
    "hinge": losses.HingeLoss,
    "softmax_focal": losses.SoftmaxFocalLoss,
}
BACKBONES = {"regnet": "RegNet", "timm": "TimmBackbone"}
TABLE = yaml.safe_load(Path(__file__).with_name("keys.yaml").read_text())
# Name of the part, argument, key, the key's value, the argument's value.
ROWS = [
    (name, argument, *row[:2], row[-1])
    for name, arguments in TABLE.items()
    for argument, row in arguments.items()
]


def as_list(alpha):
    return alpha if isinstance(alpha, float) else alpha.tolist()


# Key of a whole model, a value that is not the default, and where it is seen.
MODEL_KEYS = [
    (NODE + "P6_FROM", "p5", lambda model: model.backbone.top_block.in_feature),
    (NODE + "P7_RELU", False, lambda model: type(model.backbone.top_block) is LastLevelP6P7),
    (NODE + "CPU_ACCELERATION", False, lambda model: model.cpu_acceleration),
    (NODE + "COMPILE", True, lambda model: model.head.is_compiled and model.backbone.is_compiled),
    (NODE + "CLASS_ALPHA", [0.5] * 4, lambda model: as_list(model.loss.cls_loss.alpha)),
    ("VIS_PERIOD", 7, lambda model: model.monitor.vis_period),
]


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


@pytest.mark.parametrize("part", PARTS.values())
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


@pytest.fixture
def arguments_of(monkeypatch):
    """Return a function from a name in the table and a config's keys to the part's arguments."""

    def find(name, overrides):
        if name in PARTS:
            return from_config(PARTS[name], overrides)
        if name in LOSSES:
            cfg = detectron2_retinanet_config({NODE + "CLS_LOSS": name, **overrides})
            loss = losses.build_classification_loss(cfg)
            assert type(loss) is LOSSES[name]
            return vars(loss)
        signature = inspect.signature(getattr(backbones, BACKBONES[name]))
        found = {}

        def build(*args, **kwargs):
            found.update(signature.bind(*args, **kwargs).arguments)
            raise InterruptedError

        node = {"MODEL.BACKBONE.NAME": f"build_focal_retina_{name}_fpn_backbone"}
        cfg = detectron2_retinanet_config({**node, **overrides})
        cfg.MODEL.FPN.IN_FEATURES = ["s2", "s3", "s4"]
        with monkeypatch.context() as patch, pytest.raises(InterruptedError):
            patch.setattr(backbones, BACKBONES[name], build)
            build_backbone(cfg)
        return found

    return find


@pytest.mark.parametrize(("name", "argument", "key", "value", "expected"), ROWS)
def test_each_key_reaches_the_argument_of_its_part(
    arguments_of, name, argument, key, value, expected
):
    overrides = {key: CfgNode(value) if isinstance(value, dict) else value}
    assert plain(arguments_of(name, {}).get(argument)) != plain(expected)
    assert plain(arguments_of(name, overrides)[argument]) == plain(expected)
    part = {**PARTS, **LOSSES}.get(name) or getattr(backbones, BACKBONES[name])
    assert argument in inspect.signature(part).parameters  # its name in a LazyConfig


@pytest.mark.parametrize(("key", "value", "seen"), MODEL_KEYS)
def test_each_key_of_the_whole_model_changes_it(monkeypatch, key, value, seen):
    monkeypatch.setattr(nn.Module, "is_compiled", False, raising=False)
    monkeypatch.setattr(nn.Module, "compile", lambda self: setattr(self, "is_compiled", True))
    ours = {"MODEL.BACKBONE.NAME": "build_focal_retina_resnet_fpn_backbone"}
    assert seen(tiny_model(ours)) != value
    assert seen(tiny_model({**ours, key: value})) == value


def keys_of(node, prefix):
    for name, value in node.items():
        is_leaf = not isinstance(value, CfgNode) or name == "OPTIONS"
        yield from [prefix + name] if is_leaf else keys_of(value, f"{prefix}{name}.")


def test_no_key_is_missing_above():
    tested = {row[2] for row in ROWS} | {row[0] for row in MODEL_KEYS}
    assert set(keys_of(focal_retina_defaults(), NODE)) <= tested
