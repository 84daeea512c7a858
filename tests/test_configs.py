"""Every config builds, holds plain data, and the profiles are the table of choices."""

from operator import attrgetter
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from helpers.batches import random_batch

from focal_retina.modeling.backbones import PixelFormat
from focal_retina.settings import advice
from focal_retina.settings.flat_keys import dotted_keys, value_of
from focal_retina.settings.yaml_config import load_yaml

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
CONFIGS = HERE.parent / "configs"
YAMLS = sorted(p.name for p in CONFIGS.glob("*.yaml"))
LAZY = sorted(p.name for p in CONFIGS.glob("focal_retinanet_*.py"))
OPEN_CHOICES = yaml.safe_load((HERE / "open_choices.yaml").read_text())
PROFILES = ("paper", "detectron1", "detectron2")


def load(name):
    return load_yaml(str(CONFIGS / name), ["MODEL.DEVICE", "cpu"])


def keys_set_by(name):
    keys = dotted_keys(yaml.safe_load((CONFIGS / name).read_text()))
    return {key for key, value in keys.items() if not isinstance(value, dict)}


@pytest.mark.parametrize("column", range(3))
@pytest.mark.parametrize("key", OPEN_CHOICES)
def test_each_profile_makes_each_open_choice_as_the_table_says(key, column):
    found = value_of(load(f"Base-FocalRetinaNet-{PROFILES[column]}.yaml"), key)
    assert (list(found) if isinstance(found, tuple) else found) == OPEN_CHOICES[key][column]


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_names_every_open_choice_itself(profile):
    named = keys_set_by(f"Base-FocalRetinaNet-{profile}.yaml")
    shared = keys_set_by("Base-FocalRetinaNet.yaml")
    assert set(OPEN_CHOICES) <= named | shared
    assert not named & shared


def test_the_paper_profile_has_the_papers_numbers():
    cfg = load("focal_retinanet_R_50_FPN_1x.yaml")
    paper = cfg.clone()
    paper.merge_from_file(str(HERE / "paper_numbers.yaml"))
    assert dotted_keys(cfg) == dotted_keys(paper)


@pytest.mark.parametrize("name", [n for n in YAMLS if not n.startswith("Base")])
def test_every_yaml_builds_and_gives_finite_losses(name):
    cfg = load(name)
    cfg.MODEL.RESNETS.NORM = "GN"  # without its weights a FrozenBN backbone overflows
    cfg.MODEL.FOCAL_RETINA.REGNET.NORM = "BN"
    batch = random_batch([(64, 64)], [2], num_classes=cfg.MODEL.RETINANET.NUM_CLASSES)
    with EventStorage(0), torch.no_grad():
        losses = build_model(cfg).train()(batch)
    assert all(torch.isfinite(x) for x in losses.values())


@pytest.mark.parametrize("name", YAMLS)
def test_every_yaml_is_plain_data_and_gives_its_weights_the_pixels_they_were_trained_on(name):
    cfg = load(name)  # which refuses Python tags
    pixels = PixelFormat(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, cfg.INPUT.FORMAT)
    assert advice.pixels_of_weights(cfg.MODEL.WEIGHTS, pixels) is None


def plain_settings(part):
    plain = (bool, int, float, str, type(None))
    return {k: v for k, v in vars(part).items() if isinstance(v, plain) and k != "training"}


def lazy_model(name):
    return instantiate(LazyConfig.load(str(CONFIGS / name)).model)


@pytest.mark.parametrize("name", LAZY)
def test_every_lazy_config_is_the_model_of_its_yaml(name):
    models = lazy_model(name), build_model(load(name.replace(".py", ".yaml")))
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in models]
    assert shapes[0] == shapes[1]
    for part in map(attrgetter, ("loss", "postprocessor", "loss.normalizer", "loss.cls_loss")):
        lazy, built = (plain_settings(part(m)) for m in models)
        assert lazy == built
    lazy, built = models
    assert torch.equal(lazy.preprocessor.pixel_std, built.preprocessor.pixel_std)
    assert lazy.assigner.rule == built.assigner.rule
    cells = [list(m.anchor_generator.cell_anchors) for m in models]
    assert all(torch.equal(a, b) for a, b in zip(*cells, strict=True))
    assert lazy.anchor_generator.offset == built.anchor_generator.offset


def test_the_lazy_model_node_makes_detectron2s_choices():
    lazy = lazy_model("common/models/focal_retinanet.py")
    built = build_model(load("Base-FocalRetinaNet-detectron2.yaml"))
    assert lazy.assigner.rule == built.assigner.rule
    assert plain_settings(lazy.loss.normalizer) == plain_settings(built.loss.normalizer)
    assert lazy.anchor_generator.offset == 0.0
