"""How well anchors of given shapes fit objects."""

from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import torch
from detectron2.structures import Boxes
from torch import Tensor

from focal_retina.anchor_analysis.anchor_config import AnchorConfig, AnchorGrids, AnchorShapes
from focal_retina.anchor_analysis.objects import Objects
from focal_retina.ops.matching.lattice import AnchorLattice
from focal_retina.ops.matching.match_anchors import match_anchors
from focal_retina.ops.matching.rule import MatchRule

# Limits the memory: pairs of an object and a cell anchor.
_PAIRS_PER_CHUNK = 1 << 18
_MARGIN = 0.1


class AnchorFit(NamedTuple):
    """What G objects get of the anchors of their images."""

    shapes: AnchorShapes
    ious: Tensor  # (G,) float64: the highest IoU with any anchor
    is_labelled: Tensor  # (G,) bool: the image of the object was labelled
    unmatched: Tensor  # (G,) bool: the image was labelled, and the object has no foreground anchor
    unmatched_without_low_quality: Tensor  # (G,) bool: the same with LOW_QUALITY_MATCHES "none"


def measure_fit(
    objects: Objects, config: AnchorConfig, image_idxs: Tensor, shapes: AnchorShapes | None = None
) -> AnchorFit:
    """Measure the anchors of a config, or of other shapes; label the images of these indices."""
    shapes = shapes or config.shapes
    grids = AnchorGrids.of(config, shapes, objects.image_sizes)
    rules = config.rule, replace(config.rule, low_quality_matches="none")
    unmatched = [_without_foreground(objects, grids, image_idxs, rule) for rule in rules]
    is_labelled = torch.isin(objects.image_idxs, image_idxs)
    return AnchorFit(shapes, best_ious(objects, grids), is_labelled, *unmatched)


def best_ious(objects: Objects, grids: AnchorGrids) -> Tensor:
    """Return the highest IoU of each of G objects with any anchor of its image, (G,), float64."""
    size = max(1, _PAIRS_PER_CHUNK // sum(grids.generator.num_anchors))
    chunks = zip(objects.boxes.split(size), objects.image_idxs.split(size), strict=True)
    ious = [grids.of_objects(idxs).highest_ious(boxes.double()) for boxes, idxs in chunks]
    return torch.cat(ious)


def _without_foreground(
    objects: Objects, grids: AnchorGrids, image_idxs: Tensor, rule: MatchRule
) -> Tensor:
    """Label images as training does; return which of their objects get no foreground anchor."""
    unmatched = torch.zeros(len(objects), dtype=torch.bool)
    # Images of the same grids have the same anchors.
    ordered = sorted(image_idxs.tolist(), key=grids.of_image)
    for grid_sizes, group in groupby(ordered, key=grids.of_image):
        anchors = Boxes.cat(grids.generator([torch.empty(1, 1, *size) for size in grid_sizes]))
        lattice = AnchorLattice.of(grids.generator, grid_sizes)
        for image_idx in group:
            rows = (objects.image_idxs == image_idx).nonzero().squeeze(1)
            boxes = objects.boxes[rows]
            matches, labels = match_anchors(anchors.tensor, boxes, rule, lattice=lattice)
            unmatched[rows] = True
            unmatched[rows[matches[labels == 1]]] = False
    return unmatched


def scores(ious: Tensor, threshold: float) -> Tensor:
    """Return three scores from 0 to 1 that better anchors raise, (3,), float64.

    The share of objects that reach the threshold, the share that exceeds it by a margin, so that
    similar objects reach it, too, and the mean IoU.
    """
    shares = [(ious >= x).double().mean() for x in (threshold, threshold + _MARGIN)]
    return torch.stack([*shares, ious.double().mean()])


def is_no_worse(fit: AnchorFit, other: AnchorFit, threshold: float) -> bool:
    """Return whether no score, nor the number of unmatched objects, is worse than the other's."""
    gains = scores(fit.ious, threshold) - scores(other.ious, threshold)
    return bool((gains >= 0).all() and fit.unmatched.sum() <= other.unmatched.sum())
