"""The deltas of given anchors, read from the maps of a head without permuting them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from focal_retina.ops.memory import memory_format


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
    return _GatherAnchorDeltas.apply(image_idxs, anchor_idxs, *deltas)


class _GatherAnchorDeltas(torch.autograd.Function):
    """Each level reads an element for all anchors, and drops it for those of other levels.

    To choose the anchors of a level first would make a GPU wait for their number.
    """

    @staticmethod
    def forward(ctx: Any, image_idxs: Tensor, anchor_idxs: Tensor, *deltas: Tensor) -> Tensor:
        gathered = deltas[0].new_zeros((len(anchor_idxs), 4), dtype=torch.float32)
        ctx.levels = []
        for x in deltas:
            per_anchor = _per_anchor(x)
            num_cell_anchors, num_cells = per_anchor.shape[1:3]
            num_anchors = num_cell_anchors * num_cells
            idxs = anchor_idxs.clamp(0, num_anchors - 1)
            is_inside = (idxs == anchor_idxs)[:, None]
            index = image_idxs, idxs % num_cell_anchors, idxs // num_cell_anchors
            gathered = torch.where(is_inside, per_anchor[index], gathered)
            # All that a gradient like x needs, without keeping x.
            like = {"size": x.shape, "dtype": x.dtype, "memory_format": memory_format(x)}
            ctx.levels.append((like, index, is_inside))
            anchor_idxs = anchor_idxs - num_anchors
        return gathered

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grads = []
        for like, index, is_inside in ctx.levels:
            grads.append(torch.empty(**like, device=grad.device).zero_())
            level_grad = torch.where(is_inside, grad, 0).to(like["dtype"])
            _per_anchor(grads[-1]).index_put_(index, level_grad, accumulate=True)
        return None, None, *grads


def _per_anchor(deltas: Tensor) -> Tensor:
    """Return the view (N, A, HW, 4) of the deltas (N, A*4, H, W) of a level."""
    return deltas.unflatten(1, (-1, 4)).flatten(3).transpose(2, 3)
