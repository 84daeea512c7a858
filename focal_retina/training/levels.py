"""Which pyramid level of a batch has a loss that is not finite."""

import contextlib
from collections.abc import Callable

import torch
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from focal_retina.modeling.assignment import Assignment
from focal_retina.modeling.losses import FocalRetinaLoss


@torch.no_grad()
def faulty_levels(model: nn.Module, forward: Callable[[], object]) -> list[str]:
    """Run a batch again and return what is at fault, finest level first.

    For instance "loss_cls at p3 (its logits are not finite)". Empty for a model without
    ``FocalRetinaLoss``, or where the loss is finite this time.

    Args:
        model: in training mode; its buffers may change.
        forward: lets the batch go through the model.
    """
    owners = [m for m in model.modules() if isinstance(getattr(m, "loss", None), FocalRetinaLoss)]
    if not owners:
        return []
    loss, seen = owners[0].loss, []
    hook = loss.register_forward_pre_hook(lambda _, args: seen.append(args))
    try:
        # No counts of other processes: each looks at its own batch.
        with EventStorage(1), getattr(loss.normalizer, "deferred", contextlib.nullcontext)():
            forward()
            hook.remove()
            return _faults(loss, _names(owners[0]), *seen[0])
    finally:
        hook.remove()


def _names(owner: nn.Module) -> list[str]:
    """The features' names: of a ``FocalRetinaNet`` or a ``FocalProposalGenerator``."""
    return list(getattr(owner, "head_in_features", None) or owner.in_features)


def _faults(loss, names: list[str], logits, deltas, anchors: Tensor, assignment) -> list[str]:
    faults, start = [], 0
    for level, name in enumerate(names):
        end = start + deltas[level][0].numel() // 4
        only = [
            [x if i == level else torch.zeros_like(x) for i, x in enumerate(xs)]
            for xs in (logits, deltas)
        ]
        losses = loss(*only, anchors, _foreground_within(assignment, start, end))
        terms = [term for term, value in losses.items() if not value.isfinite()]
        outputs = {"logits": logits[level], "deltas": deltas[level]}
        wrong = [kind for kind, x in outputs.items() if not x.isfinite().all()]
        if terms:
            finite = f"its {' and '.join(wrong)} are not" if wrong else "its logits and deltas are"
            faults.append(f"{' and '.join(terms)} at {name} ({finite} finite)")
        start = end
    return faults


def _foreground_within(assignment: Assignment, start: int, end: int) -> Assignment:
    """Return the assignment without the foreground anchors outside of [start, end)."""
    kept = (assignment.anchor_idxs >= start) & (assignment.anchor_idxs < end)
    fields = ("image_idxs", "anchor_idxs", "gt_boxes")
    return assignment._replace(**{name: getattr(assignment, name)[kept] for name in fields})
