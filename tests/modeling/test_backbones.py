"""Backbones of several families train under an FPN, and pretrained ones see their own pixels."""

import importlib.util
import sys

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_model
from helpers.batches import random_batch
from helpers.small_models import losses_and_gradients

from focal_retina import add_focal_retina_config
from focal_retina.errors import MissingExtraError, UserError
from focal_retina.modeling.backbones import TimmBackbone

WIDTHS = {"DEPTH": 13, "W_A": 36.44, "W_0": 24, "W_M": 2.49, "GROUP_WIDTH": 8}
REGNET_200MF = {
    "MODEL.BACKBONE.NAME": "build_focal_retina_regnet_fpn_backbone",
    "MODEL.FPN.IN_FEATURES": ["s2", "s3", "s4"],
    **{f"MODEL.FOCAL_RETINA.REGNET.{key}": value for key, value in WIDTHS.items()},
    "MODEL.FOCAL_RETINA.REGNET.SE_RATIO": 0.25,
    "MODEL.FOCAL_RETINA.REGNET.NORM": "BN",
}
TIMM_R18 = {
    "MODEL.BACKBONE.NAME": "build_focal_retina_timm_fpn_backbone",
    "MODEL.FOCAL_RETINA.TIMM.NAME": "resnet18",
}
RESNET = {"MODEL.BACKBONE.NAME": "build_focal_retina_resnet_fpn_backbone"}
needs_timm = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed: focal_retina[timm]"
)


def config(*several_overrides):
    cfg = get_cfg()
    add_focal_retina_config(cfg)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = "FocalRetinaNet", "cpu"
    cfg.MODEL.BACKBONE.FREEZE_AT, cfg.MODEL.FPN.OUT_CHANNELS = 0, 16
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.RETINANET.NUM_CONVS = 1
    cfg.MODEL.PIXEL_STD = [57.375, 57.120, 58.395]
    for overrides in several_overrides:
        cfg.merge_from_list([x for item in overrides.items() for x in item])
    return cfg


def strides(backbone):
    return {name: shape.stride for name, shape in backbone.output_shape().items()}


PYRAMID = {"p3": 8, "p4": 16, "p5": 32, "p6": 64, "p7": 128}


@pytest.mark.parametrize(
    ("depth", "groups", "width"),
    [(18, 1, 64), (34, 1, 64), (50, 1, 64), (101, 32, 8), (152, 32, 8)],
)
def test_resnets_of_every_depth_and_resnext_build_from_a_config(depth, groups, width):
    cfg = config(RESNET)
    resnets = cfg.MODEL.RESNETS
    resnets.DEPTH, resnets.NUM_GROUPS, resnets.WIDTH_PER_GROUP = depth, groups, width
    resnets.RES2_OUT_CHANNELS = 64 if depth < 50 else 256
    with torch.device("meta"):
        backbone = build_backbone(cfg)
    assert strides(backbone) == PYRAMID


@pytest.mark.parametrize("kind", [REGNET_200MF, pytest.param(TIMM_R18, marks=needs_timm)])
def test_regnet_and_timm_backbones_train_two_steps(kind):
    torch.manual_seed(0)
    model = build_model(config(kind))
    assert strides(model.backbone) == PYRAMID
    optimizer = torch.optim.SGD(model.parameters(), 0.001)
    before = {k: v.clone() for k, v in model.named_parameters()}
    for _ in range(2):
        losses, _ = losses_and_gradients(model, random_batch([(64, 64), (96, 64)], [2, 0]))
        optimizer.step()
    assert all(loss.isfinite() for loss in losses.values())
    changed = [k for k, v in model.named_parameters() if not torch.equal(v, before[k])]
    assert any("bottom_up" in k for k in changed)
    assert len(model.eval()(random_batch([(64, 64)], [0]))) == 1


def test_features_that_a_regnet_lacks_are_an_error_that_names_what_there_is():
    with pytest.raises(UserError, match=r"\['res3', 'res4', 'res5'\].* has \['s1', 's2'"):
        build_backbone(config(REGNET_200MF, {"MODEL.FPN.IN_FEATURES": ["res3", "res4", "res5"]}))


@needs_timm
@pytest.mark.parametrize(
    ("name", "options"),
    [("convnext_atto", {}), ("swin_tiny_patch4_window7_224", {"strict_img_size": False})],
)
def test_timm_features_have_the_shapes_that_are_announced(name, options):
    backbone = TimmBackbone(name, **options).eval()
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, 64, 96))
    shapes = {name: x.shape for name, x in features.items()}
    found = {k: ShapeSpec(channels=s[1], stride=64 // s[2]) for k, s in shapes.items()}
    assert found == backbone.output_shape()
    assert {"res3", "res4", "res5"} <= set(found)


@needs_timm
def test_timm_mistakes_are_errors_that_name_the_model_or_its_features():
    with pytest.raises(UserError, match="no model 'resnet17'"):
        TimmBackbone("resnet17")
    one_stride = {"MODEL.FOCAL_RETINA.TIMM.NAME": "vit_tiny_patch16_224"}
    with pytest.raises(UserError, match=r"this backbone has \['res4'\]"):
        build_backbone(config(TIMM_R18, one_stride))


@needs_timm
def test_frozen_batch_norm_of_timm_stays_in_training():
    backbone = TimmBackbone("resnet18", freeze_bn=True).train()
    before = {k: v.clone() for k, v in backbone.state_dict().items() if "running" in k}
    backbone(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(v, before.get(k, v)) for k, v in backbone.state_dict().items())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in backbone.modules())


@needs_timm
def test_pretrained_timm_weights_need_their_pixels_and_are_loaded(tmp_path):
    import timm

    source = timm.create_model("resnet18")
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    cfg = config(TIMM_R18, {"MODEL.FOCAL_RETINA.TIMM.PRETRAINED": True})
    # timm's own way to take its weights from a file instead of a download.
    overlay = CfgNode({"file": str(tmp_path / "resnet18.pth")})
    cfg.MODEL.FOCAL_RETINA.TIMM.OPTIONS.pretrained_cfg_overlay = overlay
    mean, std = "[123.675, 116.28, 103.53]", "[58.395, 57.12, 57.375]"
    message = f"timm's resnet18 .*PIXEL_MEAN. to {mean}, .*PIXEL_STD. to {std}.*FORMAT. to RGB"
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        build_backbone(cfg)
    cfg.merge_from_list(["MODEL.PIXEL_MEAN", mean, "MODEL.PIXEL_STD", std, "INPUT.FORMAT", "RGB"])
    loaded = build_backbone(cfg).bottom_up.model
    torch.testing.assert_close(loaded.layer4[0].conv1.weight, source.layer4[0].conv1.weight)


@needs_timm
def test_timm_weights_that_are_not_to_be_had_are_one_sentence(tmp_path):
    overlay = {"file": str(tmp_path / "none.pth")}
    with pytest.raises(
        UserError, match="timm's weights of resnet18 cannot be loaded: FileNotFound"
    ):
        TimmBackbone("resnet18", pretrained=True, pretrained_cfg_overlay=overlay)


def test_without_timm_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'focal_retina\[timm\]'"):
        TimmBackbone("resnet18")


@pytest.mark.parametrize(
    "in_features, features, top",
    [
        (["p3", "p4", "p5"], "p2 p3 p4 p5", []),
        (["p3", "p4", "p5", "p6"], "p2 p3 p4 p5 p6", ["p6"]),
        (["p4", "p7"], "p2 p3 p4 p5 p6 p7", ["p6", "p7"]),
    ],
)
@pytest.mark.parametrize("p7_relu", [True, False])
def test_levels_above_the_last_that_the_head_uses_are_not_built(
    in_features, features, top, p7_relu
):
    overrides = {"MODEL.RETINANET.IN_FEATURES": in_features, "MODEL.FOCAL_RETINA.P7_RELU": p7_relu}
    backbone = build_backbone(config(REGNET_200MF, overrides))
    features = [name for name in features.split() if name in backbone.output_shape()]
    assert list(backbone.output_shape()) == features
    assert list(backbone(torch.zeros(1, 3, 64, 64))) == features
    names = {name.split(".")[1] for name, _ in backbone.named_parameters() if "top_block" in name}
    assert sorted(names) == top


def test_other_models_than_retinanets_keep_every_level():
    overrides = {"MODEL.META_ARCHITECTURE": "GeneralizedRCNN", "MODEL.RETINANET.IN_FEATURES": []}
    assert "p7" in build_backbone(config(REGNET_200MF, overrides)).output_shape()
