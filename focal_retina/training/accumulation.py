"""Accumulated gradients: the micro-batches of a batch go through the model one after the other."""

import contextlib
from collections.abc import Callable, Iterator
from itertools import pairwise

from torch import Tensor, nn


def split_batch(batch: list, steps: int) -> list[list]:
    """Return the batch as ``steps`` micro-batches of nearly equal length, in order, none empty."""
    if steps == 1:
        return [batch]
    count = min(steps, len(batch))
    bounds = [len(batch) * i // count for i in range(count + 1)]
    return [batch[start:end] for start, end in pairwise(bounds)]


@contextlib.contextmanager
def as_one_batch(
    model: nn.Module, micro_batches: list[list]
) -> Iterator[tuple[list[float], Callable[[], Tensor | None]]]:
    """Inside this context, each call of the model is for one micro-batch of a larger batch.

    The context gives a weight for the losses of each micro-batch, and a function to call after the
    last one: it returns what all of them are to be multiplied by, None for 1. So the losses of a
    ``FocalRetinaNet`` become those of the batch, divided by all its foreground. Those of any other
    model become their mean over images.
    """
    if len(micro_batches) == 1:
        yield [1.0], lambda: None
    elif getattr(model, "divides_by_foreground", False):
        with model.micro_batches(micro_batches) as correction:
            yield [1.0] * len(micro_batches), correction
    else:
        lengths = [len(micro_batch) for micro_batch in micro_batches]
        yield [length / sum(lengths) for length in lengths], lambda: None
