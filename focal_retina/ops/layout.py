"""How feature maps lie in memory."""

import torch
from torch import Tensor


def memory_format(x: Tensor) -> torch.memory_format:
    """Return the layout of (N, C, H, W): channels_last, or contiguous for any other."""
    is_channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_channels_last else torch.contiguous_format
