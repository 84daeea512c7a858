"""Matching on a lattice of anchors: only pairs whose IoU can matter are ever compared.

Take one row of the lattice and one object. The anchors whose IoU with the object can reach a given
value fill a rectangle of cells, the window, which has a closed form. The highest IoU of the object
with any anchor has a closed form too. So one enumeration, at the lower of that and the lowest
threshold, finds every pair that a threshold or a low-quality match asks about, ties included. Only
these pairs get an exact IoU.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from focal_retina.ops.matching.lattice import AnchorLattice
from focal_retina.ops.matching.rule import MatchRule

# Bounds the memory: about 150 bytes for each pair of an object and an anchor.
_PAIRS_PER_CHUNK = 1 << 17

# The closed forms are in float64 on the exact lattice, the IoUs are in float32 on rounded anchors.
# So a window must also hold what only rounding lifts over the value. Rounding moves an overlap by
# less than this many pixels, in images of up to 32,768 pixels.
_OVERLAP_SLACK = 1e-2
# It moves an IoU by less than this part of it, or by this much where float32 underflows.
_IOU_SLACK, _IOU_UNDERFLOW = 1e-2, 1e-30

_INT32_MAX = 0x7FFFFFFF


def match_sparse(
    anchors: Tensor, gt_boxes: Tensor, rule: MatchRule, lattice: AnchorLattice
) -> tuple[Tensor, Tensor]:
    """Do what ``match_anchors`` says, in memory that does not grow with objects x anchors.

    ``rule.labels[0]`` is not 1, and neither ``anchors`` nor ``gt_boxes`` is empty.
    """
    lowest, low_quality = rule.thresholds[0], rule.low_quality_matches
    # Of IoU 0 and the first object.
    best_keys = torch.full_like(anchors[:, 0], _INT32_MAX, dtype=torch.int64)
    match_labels = torch.full_like(best_keys, rule.labels[0], dtype=torch.int8)
    # The anchors that are the best of some object.
    best_parts = [anchors.new_zeros(0, dtype=torch.int64)]
    windows = _windows(gt_boxes, lattice, lowest, low_quality != "none")
    for anchor_idxs, gt_idxs in _pairs_in(*windows, lattice):
        ious = _ious(gt_boxes[gt_idxs], anchors[anchor_idxs])
        keys = _merge(best_keys, anchor_idxs, gt_idxs, ious)
        match_labels[anchor_idxs] = rule.label(_iou_of(keys))
        if low_quality != "none":
            highest = ious.new_zeros(len(gt_boxes)).scatter_reduce_(0, gt_idxs, ious, "amax")
            best_parts.append(anchor_idxs[(ious == highest[gt_idxs]) & (ious > 0)])

    best_anchors = torch.cat(best_parts)
    is_certain = _iou_of(best_keys[best_anchors]) >= lowest
    matches = best_keys.bitwise_not_().bitwise_and_(_INT32_MAX)  # in place: memory takes time
    if low_quality == "detectron1":
        best_anchors = best_anchors[is_certain]
    else:
        # Below the lowest threshold, the best object of an anchor may lie outside all windows.
        uncertain = best_anchors[~is_certain]
        for chunk in uncertain.split(max(1, 4 * _PAIRS_PER_CHUNK // len(gt_boxes))):
            few = anchors[chunk].t().contiguous().t()
            matches[chunk] = _ious(gt_boxes[:, None], few).max(dim=0).indices
    match_labels[best_anchors] = 1
    return matches, match_labels


def _merge(best_keys: Tensor, anchor_idxs: Tensor, gt_idxs: Tensor, ious: Tensor) -> Tensor:
    """Merge pairs (n,) into ``best_keys`` (R,); return those of the pairs' anchors.

    The upper half of a key is the bits of the IoU, which order like the IoUs since none is
    negative. The lower half is greatest for the first object. So the greatest key of an anchor is
    that of its best object.
    """
    keys = (ious.view(torch.int32).long() << 32) | (_INT32_MAX - gt_idxs)
    return best_keys.scatter_reduce_(0, anchor_idxs, keys, "amax")[anchor_idxs]


def _iou_of(keys: Tensor) -> Tensor:
    return (keys >> 32).int().view(torch.float32)


def _windows(
    gt_boxes: Tensor, lattice: AnchorLattice, threshold: float, low_quality: bool
) -> tuple[Tensor, Tensor]:
    """Return the window of each object and row: first cell in x and y, and number of cells.

    Both are (2, G, S), int64. The number is 0 where no anchor of the row is relevant.
    """
    # (directions, objects, rows): (2, G, 1) and (2, 1, S).
    gt_boxes = gt_boxes.double()
    gt_start, gt_stop = gt_boxes.t().view(2, 2, -1, 1)
    anchor_start, anchor_stop = lattice.first_anchors.t().view(2, 2, 1, -1)
    last_cell = (lattice.grid_sizes - 1).double().unsqueeze(1)
    gt_sides, anchor_sides = gt_stop - gt_start, anchor_stop - anchor_start
    sides = torch.minimum(gt_sides, anchor_sides)
    areas = gt_sides.prod(0) + anchor_sides.prod(0)

    ious = torch.full_like(areas[:, :1], threshold)
    if low_quality:
        ious = torch.minimum(ious, lattice.highest_ious(gt_boxes, _OVERLAP_SLACK)[:, None])
    ious = (ious * (1 - _IOU_SLACK) - _IOU_UNDERFLOW).clamp_(min=0)

    # The intersection that such an IoU needs, and the overlap that this intersection needs in one
    # direction if the other direction overlaps fully. Comparisons with nan are false: boxes that
    # are not finite have no window.
    needed = areas * (ious / (1 + ious))
    relevant = (needed <= sides.prod(0)) & (sides.amin(0) > 0)
    overlaps = needed / sides.flip(0) - _OVERLAP_SLACK
    first = (gt_start + overlaps - anchor_stop).div_(lattice.strides).ceil_().clamp_(min=0)
    last = (gt_stop - overlaps - anchor_start).div_(lattice.strides).floor_()
    cells = (torch.minimum(last, last_cell) - first + 1).clamp_(min=0).masked_fill_(~relevant, 0)
    return first.long(), cells.long()


def _pairs_in(
    first: Tensor, cells: Tensor, lattice: AnchorLattice
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield anchor and object index, int64, of all pairs in the windows, object by object."""
    step = lattice.index_steps
    row_step = lattice.grid_sizes[0] * step
    start = lattice.first_indices + first[0] * step + first[1] * row_step
    jump = row_step - cells[0] * step
    counts = cells.prod(0)  # (G, S)
    windows = torch.stack([start, jump, cells[0], step.expand_as(start)], dim=2)
    # The only wait for a GPU here: the sizes of what follows.
    for objects, num_pairs in _chunks(counts.sum(1).tolist(), _PAIRS_PER_CHUNK):
        repeats = counts[objects].flatten()
        window_idxs = torch.repeat_interleave(repeats, output_size=num_pairs)
        offsets = torch.arange(num_pairs, device=repeats.device)
        offsets -= (repeats.cumsum(0) - repeats)[window_idxs]
        start, jump, width, step = windows[objects].flatten(0, 1)[window_idxs].unbind(1)
        anchor_idxs = start + offsets * step + offsets.div(width, rounding_mode="floor") * jump
        yield anchor_idxs, window_idxs // counts.shape[1] + objects.start


def _chunks(sizes: Sequence[int], limit: int) -> Iterator[tuple[slice, int]]:
    """Yield slices of ``sizes`` and their sums, which exceed ``limit`` only for a single size."""
    start = total = 0
    for i, size in enumerate(sizes):
        if total and total + size > limit:
            yield slice(start, i), total
            start, total = i, 0
        total += size
    if total:
        yield slice(start, len(sizes)), total


def _ious(gt_boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return IoUs of broadcast boxes (..., 4), bit for bit those of ``pairwise_iou``."""
    gt_x0, gt_y0, gt_x1, gt_y1 = gt_boxes.unbind(-1)
    x0, y0, x1, y1 = anchors.unbind(-1)
    widths = (torch.minimum(gt_x1, x1) - torch.maximum(gt_x0, x0)).clamp_(min=0)
    heights = (torch.minimum(gt_y1, y1) - torch.maximum(gt_y0, y0)).clamp_(min=0)
    intersections = widths.mul_(heights)
    areas = (gt_x1 - gt_x0) * (gt_y1 - gt_y0) + (x1 - x0) * (y1 - y0)
    return torch.where(intersections > 0, intersections / areas.sub_(intersections), 0.0)
