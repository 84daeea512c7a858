"""FocalRetinaHead: the paper's initialisation, Detectron2's names and outputs."""

import math

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead
from helpers.batches import GN_R18, detectron2_retinanet_config
from torch import nn

from focal_retina import FocalRetinaHead

SHAPES = [ShapeSpec(channels=32, stride=s) for s in (8, 16, 32)]


ARGUMENTS = {"input_shape": SHAPES, "num_classes": 5, "num_anchors": 9, "conv_dims": [32, 32]}


def test_every_anchor_starts_with_the_prior_probability():
    head = FocalRetinaHead(**ARGUMENTS, prior_prob=0.01)
    assert torch.allclose(head.cls_score.bias.sigmoid(), torch.tensor(0.01))
    assert head.cls_score.bias[0].item() == pytest.approx(-math.log(99))


def test_other_weights_start_gaussian_with_sigma_one_hundredth_and_biases_at_zero():
    head = FocalRetinaHead(**ARGUMENTS | {"conv_dims": [64] * 4})
    convs = [m for m in head.modules() if isinstance(m, nn.Conv2d)]
    weights = torch.cat([c.weight.flatten() for c in convs])
    assert weights.std().item() == pytest.approx(0.01, rel=0.05)
    assert all((c.bias == 0).all() for c in convs if c is not head.cls_score)


@pytest.mark.parametrize("norm", ["", "GN", "BN", "SyncBN"])
def test_parameters_and_outputs_are_those_of_detectron2s_head(norm):
    ours, theirs = (
        kind(**ARGUMENTS, norm=norm).eval() for kind in (FocalRetinaHead, RetinaNetHead)
    )
    ours.load_state_dict(theirs.state_dict())
    ours_types, theirs_types = ({type(m) for m in x.modules()} for x in (ours, theirs))
    assert ours_types - {FocalRetinaHead} == theirs_types - {RetinaNetHead}
    features = [torch.randn(2, 32, s, s + 1) for s in (8, 4, 2)]
    for ours_out, theirs_out in zip(ours(features), theirs(features), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours_out, theirs_out, strict=True))


def test_built_as_an_rpn_head_it_has_one_class():
    cfg = detectron2_retinanet_config(GN_R18)
    shapes = [ShapeSpec(channels=64, stride=s) for s in (8, 16, 32, 64, 128)]
    assert FocalRetinaHead(cfg, shapes).cls_score.out_channels == 9
