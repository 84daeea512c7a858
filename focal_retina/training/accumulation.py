"""A batch in pieces whose gradients add up to those of the whole batch."""

import contextlib
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor, nn

from focal_retina.modeling.losses import FocalRetinaLoss
from focal_retina.modeling.normalizer import LossNormalizer
from focal_retina.modeling.retinanet import FocalRetinaNet


def split_batch(batch: list, steps: int) -> list[list]:
    """Return the batch in ``steps`` pieces of nearly equal length, in order, none empty."""
    if steps == 1:
        return [batch]
    count = min(steps, len(batch))
    bounds = [len(batch) * i // count for i in range(count + 1)]
    return [batch[start:end] for start, end in pairwise(bounds)]


def divides_by_foreground(model: nn.Module) -> bool:
    """Return whether all losses of a model are sums that its ``LossNormalizer`` divides."""
    return (
        isinstance(model, FocalRetinaNet)
        and isinstance(model.loss, FocalRetinaLoss)
        and isinstance(model.loss.normalizer, LossNormalizer)
    )


def check_accumulation(model: nn.Module, steps: int) -> None:
    """Raise a ValueError where the loss of a batch is no sum over pieces of it."""
    selection = model.loss.example_selection if divides_by_foreground(model) else None
    if steps > 1 and selection is not None:
        if selection.normalizer == "examples" or selection.scope == "batch":
            raise ValueError(
                "OHEM selects from a batch, and counts, as a whole, which gradient accumulation "
                "has not: set SOLVER.ACCUMULATION_STEPS (train.accumulation_steps) 1, or, in a "
                "LazyConfig, model.loss.example_selection.normalizer foreground and scope image"
            )


class Share:
    """Losses of any model: the mean over the pieces, weighted by their images.

    For each piece its losses are multiplied by its weight, and after the last one all of them by
    ``correction``, None for 1.
    """

    def __init__(self, pieces: list[list]):
        total = sum(map(len, pieces))
        self.weights = [len(piece) / total for piece in pieces] if len(pieces) > 1 else [1.0]

    def correction(self) -> Tensor | None:
        return None


class Deferred(Share):
    """Losses of a ``FocalRetinaNet``: divided by the foreground of the whole batch."""

    def __init__(self, pieces: list[list], normalizer: LossNormalizer):
        self.weights = [1.0] * len(pieces)
        self.correction = normalizer.correction


@contextlib.contextmanager
def as_one_batch(model: nn.Module, pieces: list[list]) -> Iterator[Share]:
    """Within, let the pieces go through the model; what to multiply their losses by.

    The pieces of a ``FocalRetinaNet`` are also padded to the size of the whole batch: padding is
    background to the loss, and part of what group normalisation sees.
    """
    if len(pieces) == 1 or not divides_by_foreground(model):
        yield Share(pieces)
        return
    normalizer, preprocessor = model.loss.normalizer, model.preprocessor
    sizes = [x["image"].shape[-2:] for piece in pieces for x in piece]
    preprocessor.min_size = tuple(max(sides) for sides in zip(*sizes, strict=True))
    try:
        with normalizer.deferred():
            yield Deferred(pieces, normalizer)
    finally:
        preprocessor.min_size = (0, 0)
