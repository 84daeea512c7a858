"""Batch normalisation of fixed statistics, folded into the convolution before it."""

import contextlib
import functools
from collections.abc import Callable, Iterator

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.utils.fusion import fuse_conv_bn_weights

from focal_retina.ops.memory import memory_format


@contextlib.contextmanager
def folded_batch_norm(model: nn.Module) -> Iterator[nn.Module]:
    """Evaluate a model with its batch normalisations folded into their convolutions.

    Covers Detectron2's ``Conv2d`` with a ``norm`` of fixed statistics: ``FrozenBatchNorm2d``, or
    ``BatchNorm2d`` in eval mode. Outputs differ by rounding only. On leaving, the model is to the
    bit what it was. Not for training, whose gradients would be those of the folded weights:
    ValueError.
    """
    if model.training:
        raise ValueError("batch norm is folded for evaluation only; call model.eval() first")
    norms = FrozenBatchNorm2d | nn.BatchNorm2d
    convs = [m for m in model.modules() if isinstance(m, Conv2d) and isinstance(m.norm, norms)]
    kept = [(conv, conv.weight, conv.bias, conv.norm) for conv in convs]
    try:
        for conv in convs:
            _fold(conv)
        yield model
    finally:
        for conv, weight, bias, norm in kept:
            conv.weight, conv.bias, conv.norm = weight, bias, norm


@torch.no_grad()
def _fold(conv: Conv2d) -> None:
    norm = conv.norm
    statistics = norm.running_mean, norm.running_var, norm.eps
    weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics, norm.weight, norm.bias)
    weight.data = weight.contiguous(memory_format=memory_format(conv.weight))
    conv.weight, conv.bias, conv.norm = weight, bias, None


@contextlib.contextmanager
def folded_in_each_forward(model: nn.Module) -> Iterator[nn.Module]:
    """Run a model forward with each ``FrozenBatchNorm2d`` folded anew into its convolution.

    For training: unlike :func:`folded_batch_norm` it leaves weights alone, and gradients are those
    of the weights. The backward pass computes the folded weights again, which saves memory. Covers
    Detectron2's ``Conv2d``. Outputs differ by rounding only. Hooks of the normalisation are not
    called.
    """
    convs = [m for m in model.modules() if type(m) is Conv2d and "forward" not in vars(m)]
    convs = [m for m in convs if isinstance(m.norm, FrozenBatchNorm2d) and m.bias is None]
    for conv in convs:
        conv.forward = functools.partial(_folded_forward, conv)
    try:
        yield model
    finally:
        for conv in convs:
            del conv.forward


def _folded_forward(conv: Conv2d, x: Tensor) -> Tensor:
    """Return what ``conv.forward(x)`` returns, (N, K, H, W), in one pass over the output."""
    norm = conv.norm
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * scale
    weight, factor = conv.weight, scale.view(-1, 1, 1, 1)
    folded = weight * factor
    with _saved_as(folded, lambda: weight.detach() * factor):
        settings = conv.stride, conv.padding, conv.dilation, conv.groups
        x = nn.functional.conv2d(x, folded, shift, *settings)
    return x if conv.activation is None else conv.activation(x)


def _saved_as(tensor: Tensor, compute: Callable[[], Tensor]) -> saved_tensors_hooks:
    """Return hooks that let the graph keep a function that computes a tensor in its place."""
    address = tensor.data_ptr()  # the graph keeps the hooks, which must not keep the tensor
    return saved_tensors_hooks(
        lambda saved: compute if saved.data_ptr() == address else saved,
        lambda kept: kept if isinstance(kept, Tensor) else kept(),
    )
