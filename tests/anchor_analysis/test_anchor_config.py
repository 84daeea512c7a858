"""What is read from a config is what its model does."""

import pytest
import torch
from detectron2.modeling import build_model
from helpers.tiny_jobs import ROOT

from focal_retina.anchor_analysis.anchor_config import AnchorConfig, AnchorGrids
from focal_retina.errors import UserError
from focal_retina.settings.yaml_config import load_yaml

SMALL = ["MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"]
SMALL += ["MODEL.FPN.OUT_CHANNELS", "8", "MODEL.RETINANET.NUM_CONVS", "1", "MODEL.DEVICE", "cpu"]


def config(profile, *opts):
    return load_yaml(f"{ROOT}/configs/Base-FocalRetinaNet-{profile}.yaml", [*SMALL, *opts])


@pytest.mark.parametrize("profile", ["paper", "detectron1"])
def test_grids_are_those_of_the_real_features(profile):
    cfg = config(profile)
    anchors, model = AnchorConfig.of(cfg), build_model(cfg)
    sizes = torch.tensor([[33, 97], [1, 130]])
    grids = AnchorGrids.of(anchors, anchors.shapes, sizes)
    for i, (height, width) in enumerate(sizes.tolist()):
        inputs = [{"image": torch.zeros(3, height, width)}]
        with torch.no_grad():
            found = [tuple(x.shape[-2:]) for x in model.head_outputs(inputs).logits]
        assert grids.of_image(i) == found


def test_the_rule_and_the_shapes_are_the_config_s():
    cfg = config("detectron1", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[1.0, 3.0]")
    anchors = AnchorConfig.of(cfg)
    assert anchors.rule.low_quality_matches == "detectron1"
    assert anchors.foreground_threshold == 0.5
    assert anchors.shapes.aspect_ratios == [[1.0, 3.0]]
    for ours, theirs in zip(
        anchors.build_generator(anchors.shapes).cell_anchors,
        build_model(cfg).anchor_generator.cell_anchors,
        strict=True,
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("opts", "culprit"),
    [
        (["MODEL.ANCHOR_GENERATOR.NAME", "TorchvisionAnchorGenerator"], "Torchvision"),
        (["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"], "MODEL.META_ARCHITECTURE"),
        (["MODEL.RETINANET.IOU_LABELS", "[0, -1, 0]"], "MODEL.RETINANET.IOU_LABELS"),
    ],
)
def test_what_cannot_be_analyzed_is_named(opts, culprit):
    with pytest.raises(UserError, match=culprit):
        AnchorConfig.of(config("paper", *opts))
