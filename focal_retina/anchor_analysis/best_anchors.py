"""Each object's best anchor, over whole data sets."""

from typing import NamedTuple

import torch
from torch import Tensor

from focal_retina.anchor_analysis.objects import Objects
from focal_retina.anchor_analysis.setting import AnchorGrids
from focal_retina.ops.matching.lattice import AnchorLattice

# Bounds the memory: objects x cell anchors.
_PAIRS_PER_CHUNK = 1 << 18
# Training computes IoUs in float32: two that differ by less are a tie here.
ROUNDING = 1e-4


class BestAnchors(NamedTuple):
    """The best of all anchors for each of G objects, float64."""

    ious: Tensor  # (G,)
    anchors: Tensor  # (G, 4), pixels of the network's input, xyxy; one of a tie
    longest_sides: Tensor  # (G, 2), pixels in x and y, of all anchors of the tie
    smallest_areas: Tensor  # (G,), pixels squared, of all anchors of the tie


def best_anchors(objects: Objects, grids: AnchorGrids) -> BestAnchors:
    """Return each object's best anchor: in closed form, since its centre is the nearest."""
    size = max(1, _PAIRS_PER_CHUNK // sum(grids.generator.num_anchors))
    chunks = [
        _best(boxes.double(), grids.of_objects(image_idxs))
        for boxes, image_idxs in zip(
            objects.boxes.split(size), objects.image_idxs.split(size), strict=True
        )
    ]
    return BestAnchors(*(torch.cat(x) for x in zip(*chunks, strict=True)))


def _best(boxes: Tensor, lattice: AnchorLattice) -> BestAnchors:
    shifts = lattice.nearest_shifts(boxes)
    # (directions, objects, rows): (2, G, 1) and (2, 1, S).
    start, stop = boxes.t().view(2, 2, -1, 1)
    anchor_start, anchor_stop = lattice.first_anchors.t().view(2, 2, 1, -1)
    sides, anchor_sides = stop - start, anchor_stop - anchor_start
    overlaps = torch.minimum(stop - anchor_start - shifts, anchor_stop + shifts - start)
    overlaps = torch.minimum(overlaps, torch.minimum(sides, anchor_sides)).clamp_(min=0)
    intersections = overlaps.prod(0)
    ious = intersections / (sides.prod(0) + anchor_sides.prod(0) - intersections)
    highest, rows = ious.max(1)
    is_tie = ious > highest[:, None] - ROUNDING
    longest_sides = torch.where(is_tie, anchor_sides, 0.0).amax(2)
    smallest_areas = torch.where(is_tie, anchor_sides.prod(0), torch.inf).amin(1)
    shifts = shifts.gather(2, rows.expand(2, -1).unsqueeze(2)).squeeze(2).t()
    anchors = lattice.first_anchors[rows] + shifts.repeat(1, 2)
    return BestAnchors(highest, anchors, longest_sides.t(), smallest_areas)
