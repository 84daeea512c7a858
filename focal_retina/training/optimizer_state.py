"""A resumed optimizer: the state of the checkpoint, with what the config has changed since."""

import logging
from itertools import chain
from types import NoneType

from torch import nn
from torch.optim import Optimizer

from focal_retina.states import StateError, conform

logger = logging.getLogger(__name__)


def describe(optimizer: Optimizer, model: nn.Module) -> dict:
    """Return the kind of a new optimizer, and its options of each parameter, by its name."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    options = {}
    for group in optimizer.param_groups:
        plain = {k: v for k, v in group.items() if isinstance(v, bool | int | float | str | tuple)}
        options.update({names.get(p, str(len(options))): plain for p in group["params"]})
    kinds = type(optimizer).__mro__  # Detectron2 derives classes that clip
    kind = next(c.__name__ for c in kinds if not c.__module__.startswith("detectron2."))
    return {"kind": kind, "options": options}


def fitted(optimizer: Optimizer, state: dict, then: dict, now: dict) -> dict:
    """Return a state for the optimizer of parameters that were in other groups, by their names.

    An option that the config has changed since gets its new value; a warning tells.

    Args:
        optimizer: the one of ``now``.
        state: of the optimizer of ``then``.
        then, now: of :func:`describe`.

    Raises:
        StateError: the optimizers are of other kinds or of other parameters.
    """
    if then["kind"] != now["kind"]:
        raise StateError(f"its optimizer is {then['kind']}, and now it is {now['kind']}")
    if odd := sorted(then["options"].keys() ^ now["options"].keys()):
        raise StateError(
            f"its optimizer has {len(then['options'])} weights to train, and now there are "
            f"{len(now['options'])}: {odd[0]} is in one of them only"
        )
    groups_then = state["param_groups"]
    ids = dict(zip(then["options"], chain(*(g["params"] for g in groups_then)), strict=True))
    group_of = {i: group for group in groups_then for i in group["params"]}
    names, changed, groups = list(now["options"]), {}, []
    for group in optimizer.state_dict()["param_groups"]:
        if not group["params"]:
            groups.append(group)
            continue
        name = names[group["params"][0]]
        was, wanted = then["options"][name], now["options"][name]
        new = {k: v for k, v in wanted.items() if was.get(k, v) != v}
        changed.update({k: f"{k} {was[k]} -> {v}" for k, v in new.items()})
        saved = group_of[ids[name]]
        rates = {"initial_lr": wanted["lr"]} if "initial_lr" in saved else {}
        own = {k: float(v) if type(v) is int else v for k, v in group.items()}
        saved = {**group, **conform(own, saved), **rates}
        groups.append({**saved, **new, "params": group["params"]})
    if changed:
        logger.warning(
            f"The config has changed since the checkpoint: {', '.join(changed.values())}. The new "
            "values count from here on."
        )
    entries = {i: state["state"].get(ids[name], {}) for i, name in enumerate(names)}
    parameters = chain(*(group["params"] for group in optimizer.param_groups))
    for parameter, own in zip(parameters, entries.values(), strict=True):
        for value in own.values():
            if not isinstance(value, int | float | NoneType):
                value.expand(parameter.shape)  # an error where it does not fit
    return {"state": {i: own for i, own in entries.items() if own}, "param_groups": groups}
