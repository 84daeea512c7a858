"""The deltas of given anchors, read from the maps of a head without permuting them."""

from collections.abc import Sequence

import torch
from torch import Tensor


def gather_deltas(deltas: Tensor, anchor_idxs: Tensor) -> Tensor:
    """Return the deltas (n, 4), float32, of some anchors, from those of all, (A*4, H, W)."""
    return at_anchors(deltas.unflatten(0, (-1, 4)).flatten(2), anchor_idxs).float()


def at_anchors(per_anchor: Tensor, anchor_idxs: Tensor) -> Tensor:
    """Return the values of some anchors, (n, D), from those of all of one image and level.

    Args:
        per_anchor: (A, D, H*W).
        anchor_idxs: (n,), int64, index into HWA, (y, x, a).
    """
    num_cell_anchors = len(per_anchor)
    return per_anchor[anchor_idxs % num_cell_anchors, :, anchor_idxs // num_cell_anchors]


def gather_anchor_deltas(
    deltas: Sequence[Tensor], image_idxs: Tensor, anchor_idxs: Tensor
) -> Tensor:
    """Return the deltas of F anchors of any images and levels, (F, 4), float32.

    Differentiable. Every level takes part in the graph, even if F is 0, and gets a gradient, of
    zeros where it has none of the anchors: DistributedDataParallel waits for it.

    Args:
        deltas: L x (N, A*4, H, W), in any layout; A may differ between levels.
        image_idxs: (F,), int64, in [0, N).
        anchor_idxs: (F,), int64, index into R, the anchors of all levels, (level, y, x, a).
    """
    gathered = deltas[0].new_zeros((len(anchor_idxs), 4), dtype=torch.float32)
    for x in deltas:
        per_anchor = x.unflatten(1, (-1, 4)).flatten(3)  # (N, A, 4, HW)
        num_cell_anchors, num_cells = per_anchor.shape[1], per_anchor.shape[3]
        num_anchors = num_cell_anchors * num_cells
        # Each level reads an element for all anchors, and drops it for those of other levels: to
        # choose the anchors of a level first would make a GPU wait for their number.
        idxs = anchor_idxs.clamp(0, num_anchors - 1)
        is_inside = (idxs == anchor_idxs)[:, None]
        values = per_anchor[image_idxs, idxs % num_cell_anchors, :, idxs // num_cell_anchors]
        gathered = torch.where(is_inside, values, gathered)
        anchor_idxs = anchor_idxs - num_anchors
    return gathered
