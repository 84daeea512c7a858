"""States of a run from a checkpoint that anybody may have written."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import NoneType

from torch import Tensor

from focal_retina.errors import UserError, shortened, shown


class StateError(UserError):
    """A state does not suit the run; the message goes on after "checkpoint X cannot be resumed"."""


# What may stand in a checkpoint where our own state has a value of a type.
_KINDS = {
    **{kind: kind for kind in (bool, int, str, dict, Tensor)},
    **{float: (int, float), list: (list, tuple), tuple: tuple, NoneType: (int, float, NoneType)},
}


def conform(own, saved, name: str = "state"):
    """Return a saved state if each part is of the kind that our own state has there.

    Dicts lose the entries that ours lack. Tensors must have our shapes; an int is at least 0, or
    ours where that is less, and below 2^63.

    Raises:
        UserError: a part is of another kind; the message names it.
    """
    is_right = isinstance(saved, _KINDS.get(type(own), object))
    if is_right and type(own) is int:
        is_right = min(own, 0) <= saved < 2**63
    if is_right and isinstance(own, Tensor):
        is_right = (saved.shape, saved.dtype) == (own.shape, own.dtype)
    if not is_right:
        raise UserError(f"its {name} is {shown(saved)}")
    if isinstance(own, tuple):
        return tuple(conform(*pair, name) for pair in zip(own, saved, strict=True))
    if not isinstance(own, dict):
        return saved
    return {key: conform(value, saved[key], key) for key, value in own.items() if key in saved}


@contextmanager
def state_errors(part: str) -> Iterator[None]:
    """Turn whatever an unusable state raises into a StateError that names the part of the run."""
    try:
        yield
    except StateError:
        raise
    except Exception as error:  # of any kind: the parts are PyTorch's and Detectron2's too
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        reason = shortened(" ".join(f"{kind}{error}".split()), 200)
        raise StateError(f"the state of {part} cannot be used: {reason}") from error
