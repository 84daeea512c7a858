"""Which objects no foreground anchor is matched with, exactly, over whole data sets.

To label every image as in training would take many minutes. An object that reaches the foreground
threshold has a foreground anchor unless another object of its image takes its best one, and one
that does not has none unless low-quality matches give it one. Only images with an object that this
leaves open are labelled.
"""

from collections.abc import Iterator
from itertools import groupby

import torch
from detectron2.structures import Boxes
from torch import Tensor

from focal_retina.anchor_analysis.best_anchors import ROUNDING, BestAnchors
from focal_retina.anchor_analysis.objects import Objects
from focal_retina.anchor_analysis.setting import AnchorGrids
from focal_retina.ops.matching.lattice import AnchorLattice
from focal_retina.ops.matching.match_anchors import match_anchors
from focal_retina.ops.matching.rule import MatchRule

# Bounds the memory: pairs of objects of the same image.
_PAIRS_PER_CHUNK = 1 << 18


def without_foreground(
    objects: Objects, grids: AnchorGrids, best: BestAnchors, rule: MatchRule
) -> Tensor:
    """Return which objects no foreground anchor is matched with, (G,), bool.

    Args:
        rule: the label of each IoU.
    """
    thresholds = torch.tensor(rule.thresholds, dtype=torch.float64)
    is_foreground = torch.tensor(rule.labels) == 1
    interval = torch.bucketize(best.ious, thresholds, right=True)
    lowest = {"none": torch.inf, "detectron1": thresholds[0], "detectron2": 1e-30}
    is_low_quality = best.ious >= lowest[rule.low_quality_matches]
    is_sure = is_foreground[interval]
    unmatched = (is_foreground.cumsum(0)[interval] == 0) & ~is_low_quality
    is_open = ~unmatched & _may_lose(objects, best, is_sure)
    # Training's float32 may see it on the other side.
    is_open |= ((best.ious[:, None] - thresholds).abs() < ROUNDING).any(1)
    for of_image, is_matched in _labelled(objects, grids, rule, objects.image_idxs[is_open]):
        unmatched[of_image] = ~is_matched
    return unmatched


def _may_lose(objects: Objects, best: BestAnchors, is_sure: Tensor) -> Tensor:
    """Return from which objects another one of their image might take all anchors, (G,).

    An object that is sure of its best anchor's label needs no other. For a low-quality match any
    anchor of the tie may be the one, so no other object may come near them.
    """
    counts = objects.image_idxs.bincount(minlength=len(objects.image_sizes))
    first = (counts.cumsum(0) - counts)[objects.image_idxs]
    counts = counts[objects.image_idxs]
    boxes = objects.boxes.double()
    areas, best_areas = (_sides(x).prod(1) for x in (boxes, best.anchors))
    reach = _reach(boxes, best)
    may_lose = torch.zeros_like(is_sure)
    step = max(1, _PAIRS_PER_CHUNK // int(counts.max())) if len(counts) else 1
    for chunk in torch.arange(len(objects)).split(step):
        repeats = counts[chunk]
        own = chunk.repeat_interleave(repeats)
        offsets = torch.arange(len(own)) - (repeats.cumsum(0) - repeats).repeat_interleave(repeats)
        other = first[own] + offsets
        is_other = other != own
        own, other = own[is_other], other[is_other]
        # With the best anchor the other object has this IoU, with any of the tie at most that.
        overlaps = _overlaps(boxes[other], best.anchors[own])
        with_best = _ious(overlaps, areas[other], best_areas[own])
        overlaps = torch.minimum(_overlaps(boxes[other], reach[own]), best.longest_sides[own])
        with_any = _ious(overlaps, areas[other], best.smallest_areas[own])
        takes = torch.where(is_sure[own], with_best, with_any) > best.ious[own] - ROUNDING
        may_lose[own[takes]] = True
    return may_lose


def _reach(boxes: Tensor, best: BestAnchors) -> Tensor:
    """Return for each object the box (G, 4) in which all anchors of the tie lie."""
    # Each has at least this intersection, and this overlap if the other direction's is full.
    ious = (best.ious - ROUNDING).clamp(min=0)
    needed = (_sides(boxes).prod(1) + best.smallest_areas) * (ious / (1 + ious))
    needed = needed[:, None] / torch.minimum(_sides(boxes), best.longest_sides).flip(1)
    margins = best.longest_sides - needed + 1e-2
    return boxes + torch.cat([-margins, margins], dim=1)


def _sides(boxes: Tensor) -> Tensor:
    return boxes[:, 2:] - boxes[:, :2]


def _overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the overlap of each pair of boxes, (P, 2), in x and in y."""
    start = torch.maximum(boxes[:, :2], others[:, :2])
    return (torch.minimum(boxes[:, 2:], others[:, 2:]) - start).clamp_(min=0)


def _ious(overlaps: Tensor, areas: Tensor, other_areas: Tensor) -> Tensor:
    intersections = overlaps.prod(1)
    return intersections / (areas + other_areas - intersections)


def _labelled(
    objects: Objects, grids: AnchorGrids, rule: MatchRule, image_idxs: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """Yield each image's slice of the objects, and which a foreground anchor is matched with."""
    bounds = torch.searchsorted(
        objects.image_idxs, torch.arange(len(objects.image_sizes) + 1)
    ).tolist()
    # Images of the same grid have the same anchors.
    ordered = sorted(image_idxs.unique().tolist(), key=grids.of_image)
    for grid_sizes, group in groupby(ordered, key=grids.of_image):
        anchors = Boxes.cat(grids.generator([torch.empty(1, 1, *size) for size in grid_sizes]))
        lattice = AnchorLattice.of(grids.generator, grid_sizes)
        for image_idx in group:
            of_image = slice(*bounds[image_idx : image_idx + 2])
            boxes = objects.boxes[of_image]
            matches, labels = match_anchors(anchors.tensor, boxes, rule, lattice=lattice)
            is_matched = torch.zeros(len(boxes), dtype=torch.bool)
            is_matched[matches[labels == 1]] = True
            yield of_image, is_matched
