"""Which convolutions go by Winograd's algorithm."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from focal_retina.acceleration import winograd

# Where the algorithm is faster: with fewer channels the transformation of the tiles takes too long,
# with fewer tiles that of the kernel. All levels of a head share a kernel.
_MIN_CHANNELS = 128
_MIN_TILES, _MIN_TILES_OF_KNOWN_KERNEL = 64, 32


class WinogradConvolutions(TorchFunctionMode):
    """The context in which Winograd's algorithm computes convolutions where it is faster.

    These are convolutions of 3x3 pixels, stride 1 and padding 1 between 128 or more channels, over
    large feature maps, channels_last, float32, on a CPU. Their outputs and gradients are rounded to
    some 1e-5 of the largest value, those of direct convolutions to 2e-6. One context is for one
    forward pass: weights must not change inside it. Not for a model that is traced or exported.

    It intercepts ``torch.conv2d``, which all modules call.
    """

    def __enter__(self) -> "WinogradConvolutions":
        self._forward, self._backward = _KernelCache(rotated=False), _KernelCache(rotated=True)
        return super().__enter__()

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        convolve = self._conv2d if func is torch.conv2d else func
        return convolve(*args, **(kwargs or {}))

    def _conv2d(self, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        settings = (stride, padding, dilation)
        is_plain = all(x in (1, (1, 1), [1, 1]) for x in settings) and groups == 1
        if is_plain and _is_supported(input, weight) and self._has_enough_tiles(input, weight):
            return WinogradConvolution.apply(input, weight, bias, self._forward, self._backward)
        return torch.conv2d(input, weight, bias, *settings, groups)

    def _has_enough_tiles(self, x: Tensor, weight: Tensor) -> bool:
        num_tiles = len(x) * -(-x.shape[2] // 4) * -(-x.shape[3] // 4)
        is_known = self._forward.holds(weight)
        return num_tiles >= (_MIN_TILES_OF_KNOWN_KERNEL if is_known else _MIN_TILES)


def _is_supported(x: Tensor, weight: Tensor) -> bool:
    return (
        weight.shape[1:] == (x.shape[1], 3, 3)
        and min(weight.shape[:2]) >= _MIN_CHANNELS
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
        and not torch.is_autocast_enabled("cpu")
    )


class _KernelCache:
    """The kernel that was transformed last, which levels share, and memory for the algorithm.

    Args:
        rotated: kernels are rotated by 180 degrees, as backward needs them.
    """

    def __init__(self, rotated: bool):
        self.rotated, self.workspace = rotated, winograd.Workspace()
        self._weight = self._kernel = None

    def holds(self, weight: Tensor) -> bool:
        # The cache keeps its weight alive, so no other weight can have the same address.
        return (
            self._weight is not None
            and self._weight.data_ptr() == weight.data_ptr()
            and self._weight.stride() == weight.stride()
        )

    def kernel(self, weight: Tensor) -> Tensor:
        """Return the transformed kernel (36, K, C)."""
        if not self.holds(weight):
            self._kernel = winograd.transform_kernel(weight, self.workspace, rotated=self.rotated)
            self._weight = weight
        return self._kernel


class WinogradConvolution(torch.autograd.Function):
    """From input, weight and bias to output, with a cache for forward and one for backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *caches: _KernelCache):
        in_forward, ctx.cache = caches
        ctx.save_for_backward(x, weight)
        kernel = in_forward.kernel(weight).transpose(1, 2)
        return winograd.convolve(x, kernel, bias, in_forward.workspace)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        cache, workspace = ctx.cache, ctx.cache.workspace
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        return (
            winograd.convolve(grad, cache.kernel(weight), None, workspace) if needs_x else None,
            winograd.weight_gradient(x, grad, workspace) if needs_weight else None,
            grad.sum((0, 2, 3)) if needs_bias else None,
            None,
            None,
        )
