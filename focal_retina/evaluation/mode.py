"""A model as it is evaluated: in eval mode, with batch norm folded, under autocast if asked for."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from focal_retina.acceleration.folding import folded_batch_norm


@contextlib.contextmanager
def evaluation_mode(model: nn.Module, dtype: torch.dtype | None = None) -> Iterator[nn.Module]:
    """Evaluate a model in eval mode with batch norm folded; restore it afterwards, to the bit.

    Args:
        model: on one device.
        dtype: what autocast computes in; None for no autocast.
    """
    was_training = model.training
    device_type = next(model.parameters()).device.type
    model.eval()
    try:
        with folded_batch_norm(model), torch.autocast(device_type, dtype, enabled=bool(dtype)):
            yield model
    finally:
        model.train(was_training)
