"""The classes of a checkpoint: who they are, and their logits in a model of other classes."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from focal_retina.checkpoint.conversion.common import CLASS_LOGITS, HEAD_OUTPUTS
from focal_retina.errors import UserError


class Classes(NamedTuple):
    names: list[str] | None  # in the order of the logits; None where they are unknown
    ids: list[int] | None  # in the dataset, in the same order


def classes_of(checkpoint: dict) -> Classes:
    """Return the classes that a checkpoint states; a UserError says that they are malformed."""
    names, ids = checkpoint.get("class_names"), checkpoint.get("category_ids")
    for key, values, kind in (("class_names", names, str), ("category_ids", ids, int)):
        is_list = isinstance(values, list | tuple) and all(isinstance(x, kind) for x in values)
        if values is not None and not (is_list and len(values) == len(names or ())):
            raise UserError(f"its {key} are no list of {kind.__name__}, one for each class")
    return Classes(names and list(names), ids and list(ids))


class _Head(NamedTuple):
    """A RetinaNet's head in the weights of a checkpoint and of the model."""

    anchors: int
    num_found: int  # classes in the checkpoint
    background: int  # 1 where each anchor has a logit for it, the last; else 0


def _head(weights: dict[str, Tensor], fresh: dict[str, Tensor], num_classes: int) -> _Head | None:
    """Return what both have; None unless their anchors and channels are the same."""
    if not {*HEAD_OUTPUTS} <= weights.keys() & fresh.keys():
        return None
    pairs = [(name, weights[name].shape, fresh[name].shape) for name in HEAD_OUTPUTS]
    if not all(x[1:] == y[1:] and (name in CLASS_LOGITS or x == y) for name, x, y in pairs):
        return None
    anchors = len(fresh[HEAD_OUTPUTS[3]]) // 4
    rows = {len(weights[name]) if weights[name].dim() else 0 for name in CLASS_LOGITS}
    background = len(fresh[CLASS_LOGITS[1]]) // anchors - num_classes
    found, rest = divmod(rows.pop(), anchors)
    is_head = not rows and not rest and found > background
    return _Head(anchors, found - background, background) if is_head else None


def refuse_other_classes(
    weights: dict[str, Tensor],
    fresh: dict[str, Tensor],
    num_classes: int | None,
    found: Sequence[str] | None,
    wanted: Sequence[str] | None,
) -> None:
    """Raise a UserError unless a checkpoint has the classes of the model, in any order.

    Arguments are those of :func:`fit_class_logits`; ``num_classes`` is None where it is unknown.
    """
    head = num_classes and _head(weights, fresh, num_classes)
    if found and wanted and sorted(found) != sorted(wanted):
        sides = (("it", found, wanted), ("the model", wanted, found))
        unshared = [(side, [x for x in ours if x not in theirs]) for side, ours, theirs in sides]
        parts = [f"only {side} has {_listed(names)}" for side, names in unshared if names]
        raise UserError(
            f"it is of other classes, {len(found)} for the model's {len(wanted)}: "
            + " and ".join(parts or ["some of them are there twice"])
        )
    if found and wanted and list(found) != list(wanted) and not head:
        raise UserError("it has the classes of the model in another order")
    if head and head.num_found != num_classes:
        names = f" ({_listed(found)})" if found else ""
        raise UserError(
            f"it is of other classes: it has {head.num_found}{names}, and the model {num_classes}"
        )


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
    head = _head(weights, fresh, num_classes)
    if head is None:
        return None
    found, wanted, num_found = list(found or ()), list(wanted or ()), head.num_found
    are_named = (len(found), len(wanted)) == (num_found, num_classes)
    if num_found == num_classes and (not are_named or found == wanted):
        return None
    shared = [name for name in wanted if name in found] if are_named else []
    rows = {wanted.index(name): found.index(name) for name in shared}
    rows |= {num_classes: num_found} if head.background else {}
    for name in CLASS_LOGITS:
        theirs = weights[name].unflatten(0, (head.anchors, -1))
        fitted = fresh[name].detach().cpu().clone().unflatten(0, (head.anchors, -1))
        for ours, row in rows.items():
            fitted[:, ours] = theirs[:, row]
        weights[name] = fitted.flatten(0, 1)
    kept = f"{len(shared)} of the same name ({_listed(shared)})"
    if not shared:
        reason = "no name is in both" if are_named else "the names of either are unknown"
        kept = f"none, since {reason}"
    return (
        f"the checkpoint has {num_found} classes, the model {num_classes}: class logits kept are "
        f"{kept}; the other {num_classes - len(shared)} start anew with the prior"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:5], *(["..."] * (len(names) > 5))])
