"""What makes a forward pass on a CPU faster: Winograd's convolutions and folded batch norm."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from focal_retina.acceleration.convolution import WinogradConvolutions
from focal_retina.acceleration.folding import folded_in_each_forward


@contextlib.contextmanager
def accelerated_forward(model: nn.Module) -> Iterator[None]:
    """Make the forward passes inside the context faster, if the model is on a CPU.

    Two things change, and nothing else:

    - Winograd's algorithm computes large 3x3 convolutions in float32. For this the context
      intercepts ``torch.conv2d``, so it works with the backbones of any library.
    - A convolution and the ``FrozenBatchNorm2d`` after it become one convolution. For this the
      context replaces ``forward`` of these modules.

    Outputs and gradients differ by rounding only, by some 1e-5 of the largest value. On leaving,
    the model is what it was. Backward passes may run outside the context. While a model is traced,
    exported or compiled the context does nothing.
    """
    is_recorded = torch.jit.is_tracing() or torch.compiler.is_compiling()
    if is_recorded or any(x.device.type != "cpu" for x in model.parameters()):
        yield
    else:
        with WinogradConvolutions(), folded_in_each_forward(model):
            yield
