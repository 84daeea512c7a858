"""What is read from a config is what its model does."""

import pytest
import torch
from detectron2.modeling import build_model
from helpers.tiny_jobs import ROOT

from focal_retina.anchor_analysis.setting import AnchorGrids, AnchorSetting
from focal_retina.settings.yaml_config import load_yaml

SMALL = ["MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"]
SMALL += ["MODEL.FPN.OUT_CHANNELS", "8", "MODEL.RETINANET.NUM_CONVS", "1", "MODEL.DEVICE", "cpu"]


def config(profile, *opts):
    return load_yaml(f"{ROOT}/configs/Base-FocalRetinaNet-{profile}.yaml", [*SMALL, *opts])


@pytest.mark.parametrize("profile", ["paper", "detectron1"])
def test_grids_are_those_of_the_real_features(profile):
    cfg = config(profile)
    setting, model = AnchorSetting.from_config(cfg), build_model(cfg)
    sizes = torch.tensor([[33, 97], [1, 130]])
    grids = AnchorGrids.of_images(setting.build(setting.shapes), sizes, setting.divisibility)
    for i, (height, width) in enumerate(sizes.tolist()):
        inputs = [{"image": torch.zeros(3, height, width)}]
        with torch.no_grad():
            found = [tuple(x.shape[-2:]) for x in model.head_outputs(inputs).logits]
        assert grids.of_image(i) == found


def test_the_rule_and_the_shapes_are_the_config_s():
    cfg = config("detectron1", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[1.0, 3.0]")
    setting = AnchorSetting.from_config(cfg)
    assert setting.rule.low_quality_matches == "detectron1"
    assert setting.foreground_threshold == 0.5
    assert setting.shapes.aspect_ratios == [[1.0, 3.0]]
    for ours, theirs in zip(
        setting.build(setting.shapes).cell_anchors,
        build_model(cfg).anchor_generator.cell_anchors,
        strict=True,
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("opts", "culprit"),
    [
        (["MODEL.ANCHOR_GENERATOR.NAME", "TorchvisionAnchorGenerator"], "Torchvision"),
        (["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"], "MODEL.META_ARCHITECTURE"),
        (["MODEL.ANCHOR_GENERATOR.SIZES", "[[-1.0]]"], "MODEL.ANCHOR_GENERATOR.SIZES"),
    ],
)
def test_what_cannot_be_analyzed_is_named(opts, culprit):
    with pytest.raises(ValueError, match=culprit):
        AnchorSetting.from_config(config("paper", *opts))


def test_labels_without_foreground_are_named():
    setting = AnchorSetting.from_config(config("paper", "MODEL.RETINANET.IOU_LABELS", "[0, -1, 0]"))
    with pytest.raises(ValueError, match="MODEL.RETINANET.IOU_LABELS"):
        setting.foreground_threshold  # noqa: B018
