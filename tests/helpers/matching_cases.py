"""Anchors, objects and Detectron2's own matches for the tests of anchor matching."""

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou

from focal_retina.ops.matching.lattice import AnchorLattice

OCTAVES = [[s, s * 2 ** (1 / 3), s * 2 ** (2 / 3)] for s in (32, 64, 128, 256, 512)]


def generator(sizes, ratios, strides, offset):
    return DefaultAnchorGenerator(sizes=sizes, aspect_ratios=ratios, strides=strides, offset=offset)


def retinanet_generator(offset=0.0):
    return generator(OCTAVES, [[0.5, 1.0, 2.0]], [8, 16, 32, 64, 128], offset)


GENERATORS = {
    "RetinaNet": retinanet_generator(),
    "centred": retinanet_generator(offset=0.5),
    "uneven": generator(
        [[20.0, 33.3], [50.0], [90.0, 100.0]], [[0.3, 1.0, 4.0]], [8, 16, 32], 0.25
    ),
    "odd strides": generator([[3.0, 7.1], [50.0]], [[1.0], [0.3, 1.0, 4.0]], [12, 5], 0.3),
}


def grid_sizes(generator, height, width):
    return [(-(-height // s), -(-width // s)) for s in generator.strides]


def all_anchors(generator, sizes):
    return Boxes.cat(generator([torch.empty(1, 1, *size) for size in sizes])).tensor


def anchors_and_lattice(generator, height, width):
    sizes = grid_sizes(generator, height, width)
    return all_anchors(generator, sizes), AnchorLattice.of(generator, sizes)


def centred(centers, sides):
    return torch.cat([centers - sides / 2, centers + sides / 2], dim=1)


def clipped(boxes, image):
    return boxes.clamp(min=0).minimum(image.repeat(2))


# Each takes the number of objects, the image's (width, height) and the anchors.
def any_size(count, image, anchors):
    return clipped(centred(torch.rand(count, 2) * image, torch.rand(count, 2) * image), image)


def tiny(count, image, anchors):
    return centred(torch.rand(count, 2) * image, torch.rand(count, 2) * 3 + 0.01)


def minute(count, image, anchors):
    near_origin = torch.rand(count, 2) * image * 10 ** (torch.rand(count, 1) * 24 - 24)
    return centred(near_origin, 10 ** (torch.rand(count, 2) * 22 - 24))


def huge(count, image, anchors):
    return centred(torch.rand(count, 2) * image, 10 ** (torch.rand(count, 2) * 22))


def elongated(count, image, anchors):
    long, short = torch.rand(count) * image.max(), torch.rand(count) * 6 + 0.5
    sides = torch.stack([long, short], 1)
    sides[::2] = sides[::2].flip(1)
    return centred(torch.rand(count, 2) * image, sides)


def integer(count, image, anchors):
    boxes = any_size(count, image, anchors).round()
    boxes[:, 2:] = boxes[:, 2:].maximum(boxes[:, :2] + 1)
    return boxes


def duplicate(count, image, anchors):
    return any_size(count, image, anchors)[torch.arange(count) // 2]


def anchor_like(count, image, anchors):
    noise = torch.randn(count, 4) * torch.randint(0, 5, (count, 1))
    return anchors[torch.randint(len(anchors), (count,))] + noise


def outside(count, image, anchors):
    boxes = any_size(count, image, anchors)
    return boxes + torch.randn(count, 2).mul(image * 3).repeat(1, 2)


def touching_the_outermost_anchors(count, image, anchors):
    start, sides = torch.rand(count, 2) * image, torch.rand(count, 2) * image + 1
    overlaps = torch.randn(count) * 10 ** (torch.rand(count) * 6 - 6)
    start[:, 0] = anchors[:, 2].max() - overlaps
    start[::2, 0] = anchors[:, 0].min() + (overlaps - sides[:, 0])[::2]
    return torch.cat([start, start + sides], dim=1)


def degenerate(count, image, anchors):
    boxes = any_size(count, image, anchors)
    boxes[::3, 2] = boxes[::3, 0]
    boxes[1::3] = boxes[1::3].flip(1)
    return boxes


def not_finite(count, image, anchors):
    boxes = any_size(count, image, anchors)
    values = torch.tensor([torch.nan, torch.inf, -torch.inf])[torch.randint(3, (count, 4))]
    return torch.where(torch.rand(count, 4) < 0.2, values, boxes)


BOX_KINDS = [
    any_size,
    tiny,
    minute,
    huge,
    elongated,
    integer,
    duplicate,
    anchor_like,
    outside,
    touching_the_outermost_anchors,
    degenerate,
    not_finite,
]
box_kinds = pytest.mark.parametrize("kind", BOX_KINDS, ids=lambda kind: kind.__name__)


def detectron2_matches(anchors, gt_boxes, thresholds, labels):
    """For each mode matches, labels, and where matches are defined, by Detectron2's ``Matcher``.

    It does not see objects that overlap no anchor, from where we differ on purpose.
    """
    ious = pairwise_iou(Boxes(gt_boxes), Boxes(anchors))
    overlapping = (ious.amax(1) > 0).nonzero().squeeze(1)
    ious = ious[overlapping]
    matches, plain = Matcher(thresholds, labels)(ious)
    low_quality = Matcher(thresholds, labels, allow_low_quality_matches=True)(ious)[1]
    matches = torch.cat([overlapping, overlapping.new_zeros(1)])[matches]
    best_ious = torch.cat([ious, ious.new_zeros(1, len(anchors))]).amax(0)
    is_reached = best_ious >= thresholds[0]
    labels_of_modes = {
        "none": plain,
        "detectron1": torch.where(is_reached, low_quality, plain),
        "detectron2": low_quality,
    }
    return {mode: (matches, x, is_reached | (x == 1)) for mode, x in labels_of_modes.items()}
