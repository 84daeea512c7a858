"""The choice between the implementations of loss, labelling and post-processing."""

import importlib.util
import os

import torch

# Read once, at import: neither can change later (triton itself reads TRITON_INTERPRET when its
# kernels are defined), and constants can be traced by torch.compile.
_TRITON_INSTALLED = importlib.util.find_spec("triton") is not None
_TRITON_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def available_backends(device: torch.device) -> list[str]:
    """Return the names that :func:`resolve_backend` accepts for tensors on ``device``."""
    names = ["auto", "reference", "torch"]
    if _TRITON_INSTALLED and (device.type == "cuda" or _TRITON_INTERPRETED):
        names.append("triton")
    return names


def resolve_backend(backend: str, device: torch.device) -> str:
    """
    Return the implementation to use for tensors on ``device``.

    Args:
        backend: "reference" (the readable formulas), "torch" (ATen operations), "triton" (kernels
            for CUDA; on a CPU only in Triton's interpreter, when the environment variable
            TRITON_INTERPRET was 1 at import), or "auto": "triton" on CUDA where it is installed,
            else "torch".
        device: where the tensors are.

    Returns:
        "reference", "torch" or "triton".

    Raises:
        ValueError: an unknown or unavailable name.
    """
    names = available_backends(device)
    if backend not in names:
        raise ValueError(
            f"backend {backend!r} is not available on {device.type}; choose one of {names}"
        )
    if backend != "auto":
        return backend
    return "triton" if device.type == "cuda" and "triton" in names else "torch"
