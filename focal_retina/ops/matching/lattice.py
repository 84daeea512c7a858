"""Where the anchors of a regular generator lie, in a few numbers instead of R boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from torch import Tensor


@dataclass(frozen=True)
class AnchorLattice:
    """S rows of anchors: one row for each cell anchor of each level, with an anchor in each cell.

    The anchor of row s at cell (x, y) is ``first_anchors[s]`` shifted by ``(x, y) * strides[s]``;
    its index among all R anchors is
    ``first_indices[s] + (y * grid_sizes[0, s] + x) * index_steps[s]``.
    """

    first_anchors: Tensor  # (S, 4) float64, pixels, xyxy: the anchor at cell (0, 0)
    strides: Tensor  # (S,) float64, pixels
    grid_sizes: Tensor  # (2, S) int64: cells in x, in y; those of G objects: (2, G, S)
    first_indices: Tensor  # (S,) int64
    index_steps: Tensor  # (S,) int64: cell anchors of the level
    num_anchors: int  # R

    @classmethod
    def of(cls, generator: Any, grid_sizes: Sequence[tuple[int, int]]) -> "AnchorLattice | None":
        """Return the lattice of a generator on its device, or None where none is known.

        Args:
            generator: Detectron2's ``DefaultAnchorGenerator`` itself, or an object with its
                ``cell_anchors``, ``strides`` and ``offset`` whose own class says
                ``is_regular_lattice = True``. A subclass must say so again: it may move anchors.
            grid_sizes: (height, width) of each level's features.
        """
        is_declared = vars(type(generator)).get("is_regular_lattice", False)
        if type(generator) is not DefaultAnchorGenerator and not is_declared:
            return None
        anchors, rows, num_anchors = [], [], 0
        levels = zip(generator.cell_anchors, generator.strides, grid_sizes, strict=True)
        for cell_anchors, stride, (height, width) in levels:
            step = len(cell_anchors)
            anchors.append(cell_anchors.double() + generator.offset * stride)
            rows += [(stride, width, height, num_anchors + a, step) for a in range(step)]
            num_anchors += height * width * step
        first_anchors = torch.cat(anchors)
        # One copy, without waiting for a GPU: this happens in every training step.
        columns = torch.tensor(rows, dtype=torch.float64).t()
        columns = columns.to(first_anchors.device, non_blocking=True)
        integers = columns[1:].long()
        return cls(first_anchors, columns[0], integers[:2], integers[2], integers[3], num_anchors)

    def highest_ious(self, boxes: Tensor, slack: float = 0.0) -> Tensor:
        """Return the highest IoU of each box with an anchor, (G,), float64.

        In a row, the anchor whose centre is nearest to that of the box has it.

        Args:
            boxes: (G, 4), float64, pixels, xyxy.
            slack: take overlaps of the sides for shorter, by so many pixels.
        """
        start, stop = boxes.t().view(2, 2, -1, 1)
        anchor_start, anchor_stop = self.first_anchors.t().view(2, 2, 1, -1)
        last_cell = (self.grid_sizes - 1).double().view(2, -1, len(self.strides))
        nearest = (start + stop - anchor_start - anchor_stop) / (2 * self.strides)
        shifts = torch.minimum(nearest.round_().clamp_(min=0), last_cell) * self.strides
        overlaps = torch.minimum(stop - anchor_start - shifts, anchor_stop + shifts - start)
        sides, anchor_sides = stop - start, anchor_stop - anchor_start
        overlaps = torch.minimum(overlaps - slack, torch.minimum(sides, anchor_sides))
        intersections = overlaps.clamp_(min=0).prod(0)
        unions = sides.prod(0) + anchor_sides.prod(0) - intersections
        return (intersections / unions).amax(1)
