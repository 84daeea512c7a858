"""OctaveAnchorGenerator: Detectron2's boxes, the paper's counts, the authors' rounding."""

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.structures import Boxes

from focal_retina import OctaveAnchorGenerator

STRIDES = [8, 16, 32, 64, 128]
BASE_SIZES = [[32], [64], [128], [256], [512]]


def feature_maps(height, width):
    return [torch.zeros(1, 1, -(-height // s), -(-width // s)) for s in STRIDES]


def octave(**kwargs):
    return OctaveAnchorGenerator(**{"base_sizes": BASE_SIZES, "strides": STRIDES, **kwargs})


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("size", [(600, 800), (64, 64), (333, 1)])
def test_three_scales_per_octave_are_the_anchors_of_detectron2s_retinanet(offset, size):
    sizes = [[x, x * 2 ** (1.0 / 3), x * 2 ** (2.0 / 3)] for [x] in BASE_SIZES]
    theirs = DefaultAnchorGenerator(
        sizes=sizes, aspect_ratios=[[0.5, 1.0, 2.0]], strides=STRIDES, offset=offset
    )
    features = feature_maps(*size)
    for ours_i, theirs_i in zip(octave(offset=offset)(features), theirs(features), strict=True):
        assert torch.equal(ours_i.tensor, theirs_i.tensor)


@pytest.mark.parametrize(("size", "count"), [((608, 800), 91_260), ((800, 1344), 201_600)])
def test_the_number_of_anchors_per_image_is_the_papers(size, count):
    assert len(Boxes.cat(octave()(feature_maps(*size)))) == count


@pytest.mark.parametrize("scales", [1, 2, 3, 4])
def test_n_scales_per_octave_are_the_nth_roots_of_two(scales):
    anchors = octave(scales_per_octave=scales, aspect_ratios=[1.0]).cell_anchors
    for base, level in zip(BASE_SIZES, anchors, strict=True):
        expected = [base[0] * 2 ** (k / scales) for k in range(scales)]
        assert torch.allclose(level[:, 2] - level[:, 0], torch.tensor(expected))


def test_rounded_sides_are_the_authors_whole_pixels():
    cell = next(iter(octave(round_sides=True, scales_per_octave=1).cell_anchors))
    # Stride 8, area 64: ratio 1/2 -> 11 x 6, 1 -> 8 x 8, 2 -> 6 x 12; times 32 / 8.
    expected = torch.tensor([[44.0, 24.0], [32.0, 32.0], [24.0, 48.0]])
    assert torch.equal(cell[:, 2:] - cell[:, :2], expected)
    assert torch.equal(cell[:, 2:], -cell[:, :2])


def test_levels_may_have_different_anchors():
    generator = octave(base_sizes=[[32], [64], [128], [256], [400, 512]])
    assert generator.num_anchors == [9, 9, 9, 9, 18]
    assert [len(x) for x in generator(feature_maps(128, 128))][-1] == 18
