"""Mixed precision: what autocast computes in, and the loss scaling that float16 needs."""

import torch


def autocast_dtype(name: str) -> torch.dtype:
    """Return the dtype called "float16" or "bfloat16"; ValueError for another name."""
    if name not in ("float16", "bfloat16"):
        raise ValueError(f"mixed precision is float16 or bfloat16, not {name!r}")
    return getattr(torch, name)
