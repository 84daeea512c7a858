"""Fit the class logits of a checkpoint to a model of other classes."""

from collections.abc import Sequence

from torch import Tensor

from focal_retina.checkpoint.conversion.common import CLASS_LOGITS, HEAD_OUTPUTS


def fit_class_logits(
    weights: dict[str, Tensor],
    fresh: dict[str, Tensor],
    num_classes: int,
    found: Sequence[str] | None,
    wanted: Sequence[str] | None,
) -> str | None:
    """Replace the class logits by those for the model's classes, where they differ, in place.

    Classes of the same name keep their logits. The others get those of the model as it was built:
    random weights and the bias of the prior.

    Args:
        weights: of the checkpoint.
        fresh: weights of the model, just built.
        num_classes: K of the model.
        found, wanted: class names of the checkpoint and of the model, in the order of the logits.

    Returns:
        What was done, in one sentence; None if nothing was.
    """
    if not _comparable(weights, fresh):
        return None
    found, wanted = list(found or ()), list(wanted or ())
    anchors = len(fresh[CLASS_LOGITS[1]]) // num_classes
    num_found = len(weights[CLASS_LOGITS[1]]) // anchors
    are_named = (len(found), len(wanted)) == (num_found, num_classes)
    if num_found == num_classes and (not are_named or found == wanted):
        return None
    shared = [name for name in wanted if name in found] if are_named else []
    for name in CLASS_LOGITS:
        rows = weights[name].unflatten(0, (anchors, num_found))
        fitted = fresh[name].detach().cpu().clone().unflatten(0, (anchors, num_classes))
        for class_name in shared:
            fitted[:, wanted.index(class_name)] = rows[:, found.index(class_name)]
        weights[name] = fitted.flatten(0, 1)
    names = ", ".join([*shared[:5], *(["..."] * (len(shared) > 5))])
    kept = f"{len(shared)} of the same name ({names})"
    if not shared:
        reason = "no name is in both" if are_named else "the names of either are unknown"
        kept = f"none, since {reason}"
    return (
        f"the checkpoint has {num_found} classes, the model {num_classes}: class logits kept are "
        f"{kept}; the other {num_classes - len(shared)} start anew with the prior"
    )


def _comparable(weights: dict[str, Tensor], fresh: dict[str, Tensor]) -> bool:
    """Return whether both have a RetinaNet's head of the same anchors and channels."""
    if not {*HEAD_OUTPUTS} <= weights.keys() & fresh.keys():
        return False
    pairs = [(name, weights[name].shape, fresh[name].shape) for name in HEAD_OUTPUTS]
    return all(x[1:] == y[1:] and (name in CLASS_LOGITS or x == y) for name, x, y in pairs)
