"""The highest IoU of each object with any anchor, over whole datasets."""

import torch
from torch import Tensor

from focal_retina.anchor_analysis.anchor_config import AnchorGrids
from focal_retina.anchor_analysis.objects import Objects
from focal_retina.ops.matching.lattice import AnchorLattice

# Limits the memory: pairs of an object and a cell anchor.
_PAIRS_PER_CHUNK = 1 << 18


def best_ious(objects: Objects, grids: AnchorGrids) -> Tensor:
    """Return the highest IoU of each of G objects with any anchor of its image, (G,), float64.

    Among the anchors of one shape, the one whose centre is nearest has it.
    """
    size = max(1, _PAIRS_PER_CHUNK // sum(grids.generator.num_anchors))
    chunks = zip(objects.boxes.split(size), objects.image_idxs.split(size), strict=True)
    return torch.cat([_best_ious(boxes.double(), grids.of_objects(idxs)) for boxes, idxs in chunks])


def _best_ious(boxes: Tensor, lattice: AnchorLattice) -> Tensor:
    shifts = lattice.nearest_shifts(boxes)
    # (x and y, objects, shapes): (2, G, 1) and (2, 1, S).
    start, stop = boxes.t().view(2, 2, -1, 1)
    anchor_start, anchor_stop = lattice.first_anchors.t().view(2, 2, 1, -1)
    sides, anchor_sides = stop - start, anchor_stop - anchor_start
    overlaps = torch.minimum(stop - anchor_start - shifts, anchor_stop + shifts - start)
    overlaps = torch.minimum(overlaps, torch.minimum(sides, anchor_sides)).clamp_(min=0)
    intersections = overlaps.prod(0)
    unions = sides.prod(0) + anchor_sides.prod(0) - intersections
    return (intersections / unions).amax(1)
