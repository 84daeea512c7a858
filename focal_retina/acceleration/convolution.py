"""Which convolutions go by Winograd's algorithm."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from focal_retina.acceleration.winograd import (
    Workspace,
    convolve,
    count_tiles,
    transform_kernel,
    weight_gradient,
)

# Where the algorithm is faster: with fewer channels the transformations of tiles take too long,
# with fewer tiles that of the kernel, which all levels of a head share.
_MIN_CHANNELS = 128
_MIN_TILES, _MIN_TILES_OF_KNOWN_KERNEL = 64, 32


def fast_convolutions() -> AbstractContextManager:
    """Return the context in which a model runs forward.

    Convolutions of 3x3 pixels, stride 1 and padding 1 between 128 or more channels go by Winograd's
    algorithm where that is faster: over large feature maps, channels_last, float32, on a CPU. It
    rounds more coarsely, to some 1e-5 of the largest output instead of 2e-6, and gradients alike.
    Not for a model that is traced or exported.
    """
    return _WinogradConvolutions()


class _WinogradConvolutions(TorchFunctionMode):
    """For one forward pass, as it takes weights to stay what they are."""

    def __init__(self):
        super().__init__()
        self._forward, self._backward = _Memory(turned=False), _Memory(turned=True)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.conv2d:
            return self._conv2d(*args, **kwargs)
        return func(*args, **kwargs)

    def __exit__(self, *exception) -> None:
        super().__exit__(*exception)
        self._forward.forget()

    def _conv2d(self, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        settings = (stride, padding, dilation)
        is_plain = all(x in (1, (1, 1), [1, 1]) for x in settings) and groups == 1
        if is_plain and _is_suitable(input, weight) and self._pays(input, weight):
            return WinogradConvolution.apply(input, weight, bias, self._forward, self._backward)
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)

    def _pays(self, x: Tensor, weight: Tensor) -> bool:
        known = self._forward.is_of(weight)
        return count_tiles(x) >= (_MIN_TILES_OF_KNOWN_KERNEL if known else _MIN_TILES)


def _is_suitable(x: Tensor, weight: Tensor) -> bool:
    return (
        weight.shape[1:] == (x.shape[1], 3, 3)
        and min(weight.shape[:2]) >= _MIN_CHANNELS
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
        and not torch.is_autocast_enabled("cpu")
    )


class _Memory:
    """Room to work, and the kernel that was transformed last, since levels share it."""

    def __init__(self, turned: bool):
        self.turned = turned
        self.forget()

    def forget(self) -> None:
        self._weight = self._kernel = None
        self.workspace = Workspace()

    def is_of(self, weight: Tensor) -> bool:
        last = self._weight  # being kept, its memory is no other's
        return (
            last is not None
            and last.data_ptr() == weight.data_ptr()
            and last.stride() == weight.stride()
        )

    def kernel(self, weight: Tensor) -> Tensor:
        """Return the transformed kernel (36, K, C)."""
        if not self.is_of(weight):
            self._weight = weight
            self._kernel = transform_kernel(weight, self.turned, self.workspace)
        return self._kernel


class WinogradConvolution(torch.autograd.Function):
    """From input, weight and bias to the output; with what forward and backward each remember."""

    @staticmethod
    def forward(ctx, x, weight, bias, in_forward, in_backward):
        ctx.save_for_backward(x, weight)
        ctx.memory = in_backward
        kernel = in_forward.kernel(weight).transpose(1, 2)
        return convolve(x, kernel, bias, in_forward.workspace)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        memory, grads = ctx.memory, [None] * 5
        if ctx.needs_input_grad[0]:
            grads[0] = convolve(grad, memory.kernel(weight), None, memory.workspace)
        if ctx.needs_input_grad[1]:
            grads[1] = weight_gradient(x, grad, memory.workspace)
        if ctx.needs_input_grad[2]:
            grads[2] = grad.sum((0, 2, 3))
        return tuple(grads)
