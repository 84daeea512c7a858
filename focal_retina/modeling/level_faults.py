"""Which pyramid levels of a batch have a loss that is not finite."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from focal_retina.modeling.assignment import Assignment
    from focal_retina.modeling.losses import FocalRetinaLoss


@torch.no_grad()
def level_faults(
    loss: "FocalRetinaLoss",
    names: Sequence[str],
    logits: list[Tensor],
    deltas: list[Tensor],
    anchors: Tensor,
    assignment: "Assignment",
) -> list[str]:
    """Return the faults, for instance "loss_cls at p3 (its logits are not finite)".

    Args:
        names: of the L levels, fine to coarse.
        logits, deltas, anchors, assignment: what ``loss`` was called with.
    """
    faults, end = [], 0
    divisor = assignment.num_foreground.sum().clamp(min=1)
    for name, x, d in zip(names, logits, deltas, strict=True):
        start, end = end, end + d[0].numel() // 4
        level = _of_anchors(assignment, start, end)
        losses = loss.forward([x], [d], anchors[start:end], level, divisor)  # without its hooks
        terms = " and ".join(term for term, value in losses.items() if not value.isfinite())
        outputs = {"logits": x, "deltas": d}
        wrong = " and ".join(kind for kind, y in outputs.items() if not y.isfinite().all())
        if terms:
            cause = f"{wrong} are not" if wrong else "logits and deltas are"
            faults.append(f"{terms} at {name} (its {cause} finite)")
    return faults


def _of_anchors(assignment: "Assignment", start: int, end: int) -> "Assignment":
    """Return the assignment of the anchors of index [start, end) alone."""
    kept = (assignment.anchor_idxs >= start) & (assignment.anchor_idxs < end)
    return assignment._replace(
        gt_labels=assignment.gt_labels[:, start:end],
        image_idxs=assignment.image_idxs[kept],
        anchor_idxs=assignment.anchor_idxs[kept] - start,
        gt_boxes=assignment.gt_boxes[kept],
    )
