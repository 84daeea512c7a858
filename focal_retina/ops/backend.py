"""The choice between the implementations of loss, labelling and post-processing."""

import importlib.util
import os

import torch

from focal_retina.errors import UserError

# Read once, at import: torch.compile can trace constants, and neither changes later. Triton itself
# reads TRITON_INTERPRET when its kernels are defined.
_TRITON_INSTALLED = importlib.util.find_spec("triton") is not None
_TRITON_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def available_backends(device: torch.device) -> list[str]:
    """Return the names that :func:`resolve_backend` accepts for tensors on ``device``."""
    names = ["auto", "reference", "torch"]
    if _TRITON_INSTALLED and (device.type == "cuda" or _TRITON_INTERPRETED):
        names.append("triton")
    return names


def resolve_backend(backend: str, device: torch.device) -> str:
    """Return the implementation to use for tensors on a device; UserError if it is not available.

    Args:
        backend: "reference": the readable formulas. "torch": ATen operations. "triton": kernels
            for CUDA; on a CPU only Triton's interpreter has them, if the environment variable
            TRITON_INTERPRET was 1 at import. "auto": "triton" on CUDA where it is installed, else
            "torch".
    """
    names = available_backends(device)
    if backend not in names:
        raise UserError(
            f"backend {backend!r} (MODEL.FOCAL_RETINA.BACKEND) is not available on {device.type}; "
            f"choose one of {', '.join(names)}"
        )
    if backend != "auto":
        return backend
    return "triton" if device.type == "cuda" and "triton" in names else "torch"
