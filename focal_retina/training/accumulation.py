"""Accumulated gradients: the micro-batches of a batch go through the model one after the other."""

import contextlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn


def split_batch(batch: list, steps: int) -> list[list]:
    """Return the batch as ``steps`` micro-batches of nearly equal length, in order, none empty."""
    if steps == 1:
        return [batch]
    count = min(steps, len(batch))
    bounds = [len(batch) * i // count for i in range(count + 1)]
    return [batch[start:end] for start, end in pairwise(bounds)]


def check_accumulation(model: nn.Module, steps: int) -> None:
    """Raise a UserError where the loss of a batch is no sum over micro-batches of it."""
    if steps > 1 and getattr(model, "divides_by_foreground", False):
        model.check_micro_batches()


class LossFactors(NamedTuple):
    """What makes the losses of micro-batches add up to the loss of the batch.

    Multiply those of each micro-batch by its weight, and after the last one all of them by
    ``correction()``, which is None for 1.
    """

    weights: list[float]
    correction: Callable[[], Tensor | None]


@contextlib.contextmanager
def as_one_batch(model: nn.Module, micro_batches: list[list]) -> Iterator[LossFactors]:
    """Inside this context, let the micro-batches go through the model.

    The losses of a ``FocalRetinaNet`` become those of the batch, divided by all its foreground.
    Those of any other model become their mean over images.
    """
    if len(micro_batches) == 1:
        yield LossFactors([1.0], lambda: None)
    elif getattr(model, "divides_by_foreground", False):
        with model.micro_batches(micro_batches) as correction:
            yield LossFactors([1.0] * len(micro_batches), correction)
    else:
        lengths = [len(micro_batch) for micro_batch in micro_batches]
        yield LossFactors([length / sum(lengths) for length in lengths], lambda: None)
