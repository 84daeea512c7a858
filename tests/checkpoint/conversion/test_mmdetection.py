"""mmdetection's RetinaNet by its documented names, and its forward pass written out."""

import math
from collections import OrderedDict
from itertools import product

import pytest
import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from helpers import foreign_models as foreign
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor

from focal_retina.checkpoint.conversion.sources import convert

pytestmark = pytest.mark.slow

STRIDES = [8, 16, 32, 64, 128]
CLASSES, CHANNELS = 5, 64
META = {"meta": {"cfg": "model = dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0])"}}


def conv_module(inputs, size, stride=1, norm=False, relu=False):
    parts = {"conv": nn.Conv2d(inputs, CHANNELS, size, stride, size // 2, bias=not norm)}
    parts |= {"gn": nn.GroupNorm(32, CHANNELS)} if norm else {}
    return nn.Sequential(OrderedDict(**parts, activate=nn.ReLU() if relu else nn.Identity()))


class RetinaNet(nn.Module):
    def __init__(self, p6_channels=512, norm=False):
        super().__init__()
        layers = {f"layer{i}": f"c{i + 1}" for i in (2, 3, 4)}
        self.backbone = create_feature_extractor(resnet18(), layers)
        self.neck, self.bbox_head = nn.Module(), nn.Module()
        self.neck.lateral_convs = nn.ModuleList(conv_module(c, 1) for c in (128, 256, 512))
        extra = [conv_module(p6_channels, 3, 2), conv_module(CHANNELS, 3, 2)]
        self.neck.fpn_convs = nn.ModuleList([conv_module(CHANNELS, 3) for _ in range(3)] + extra)
        for part, rows in (("cls", 9 * CLASSES), ("reg", 9 * 4)):
            tower = (conv_module(CHANNELS, 3, norm=norm, relu=True) for _ in range(2))
            self.bbox_head.add_module(f"{part}_convs", nn.Sequential(*tower))
            last = nn.Conv2d(CHANNELS, rows, 3, padding=1)
            self.bbox_head.add_module(f"retina_{part}", last)

    def features(self, x):
        c = list(self.backbone(x).values())
        p = [conv(x) for conv, x in zip(self.neck.lateral_convs, c, strict=True)]
        for i in (2, 1):
            p[i - 1] = p[i - 1] + F.interpolate(p[i], size=p[i - 1].shape[2:], mode="nearest")
        *convs, conv6, conv7 = self.neck.fpn_convs
        p = [conv(x) for conv, x in zip(convs, p, strict=True)]
        p6 = conv6(c[2] if conv6.conv.in_channels == 512 else p[2])
        return [*p, p6, conv7(p6)]  # relu_before_extra_convs is False

    def forward(self, images):
        features, head = self.features(images), self.bbox_head
        parts = ((head.cls_convs, head.retina_cls), (head.reg_convs, head.retina_reg))
        return [foreign.by_anchor([last(tower(x)) for x in features]) for tower, last in parts]


def anchors(grids):
    """Return mmdetection's anchors (R, 4): octave_base_scale 4, (ratio, scale), centre offset 0."""
    boxes = []
    for stride, (height, width) in zip(STRIDES, grids, strict=True):
        places = product(range(height), range(width), (0.5, 1.0, 2.0), range(3))
        for y, x, ratio, k in places:
            size = 4 * stride * 2 ** (k / 3)
            w, h = size / math.sqrt(ratio) / 2, size * math.sqrt(ratio) / 2
            cx, cy = x * stride, y * stride
            boxes.append((cx - w, cy - h, cx + w, cy + h))
    return torch.tensor(boxes)


@pytest.mark.parametrize("norm", [False, True], ids=["plain head", "GN head"])
@pytest.mark.parametrize("p6_channels", [512, CHANNELS], ids=["P6 from C5", "P6 from P5"])
@torch.no_grad()
def test_logits_and_boxes_are_those_of_the_reference(p6_channels, norm, tmp_path):
    torch.manual_seed(0)
    theirs = foreign.randomise(RetinaNet(p6_channels, norm))
    _, ours = foreign.converted({"state_dict": theirs.state_dict(), **META}, tmp_path)
    image = foreign.synthetic_images()[0]
    mean, std = torch.tensor([[1.0, 2, 3], [4, 5, 6]]).view(2, 3, 1, 1)
    expected_logits, expected_deltas = theirs((image.float() - mean)[None] / std)
    logits, deltas = foreign.outputs(ours, [image])
    found_logits, found_deltas = foreign.by_anchor(logits), foreign.by_anchor(deltas)
    scale = expected_logits.abs().max()
    assert (found_logits - foreign.by_size(expected_logits)).abs().max() <= 1e-4 * max(1, scale)

    transform = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))
    small = 0.1 / expected_deltas.abs().max()
    expected = transform.apply_deltas(
        small * expected_deltas[0], anchors([x.shape[-2:] for x in logits])
    )
    ours_anchors = torch.cat([x.tensor for x in ours.anchor_generator(logits)])
    boxes = ours.postprocessor.box2box_transform.apply_deltas(small * found_deltas[0], ours_anchors)
    torch.testing.assert_close(boxes, foreign.by_size(expected[None])[0], atol=2e-2, rtol=1e-4)


@pytest.fixture(scope="module")
def state():
    return RetinaNet().state_dict()


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("style='caffe'", "MODEL.RESNETS.STRIDE_IN_1X1", True),
        ('"style": "pytorch"', "MODEL.RESNETS.STRIDE_IN_1X1", False),
        ("mean=[103.53, 116.28, 123.675]", "MODEL.PIXEL_MEAN", [103.53, 116.28, 123.675]),
        ("std=[1.0, 1.0, 1.0], to_rgb=False", "INPUT.FORMAT", "BGR"),
        ("bgr_to_rgb=True", "INPUT.FORMAT", "RGB"),
        ("relu_before_extra_convs=True", "MODEL.FOCAL_RETINA.P7_RELU", True),
        ("target_stds=[0.1, 0.1, 0.2, 0.2]", "MODEL.RETINANET.BBOX_REG_WEIGHTS", [10, 10, 5, 5]),
    ],
)
@pytest.mark.parametrize("version", ["config", "cfg"])
def test_the_config_in_the_checkpoint_decides_what_weights_do_not_tell(
    text, key, value, version, state
):
    assert convert({"model": state, "meta": {version: text}}).config[key] == value


@pytest.mark.parametrize(
    "meta", [{"CLASSES": tuple("abcde")}, {"dataset_meta": {"classes": tuple("abcde")}}]
)
def test_class_names_are_kept(meta, state):
    assert convert({"model": state, "meta": meta}).class_names == list("abcde")
