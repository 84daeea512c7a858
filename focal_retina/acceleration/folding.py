"""Batch normalisation of fixed statistics, folded into the convolution before it."""

import contextlib
import functools
from collections.abc import Callable, Iterator

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.utils.fusion import fuse_conv_bn_weights

from focal_retina.ops.layout import memory_format


@contextlib.contextmanager
def folded_batch_norm(model: nn.Module) -> Iterator[nn.Module]:
    """Evaluate a model with its batch normalisations folded into their convolutions.

    Covers Detectron2's ``Conv2d`` with a ``norm`` of fixed statistics: ``FrozenBatchNorm2d``, or
    ``BatchNorm2d`` in eval mode. Outputs differ by rounding only. On leaving, the model is what it
    was, to the bit. Not for training: gradients would be those of the folded weights.

    Args:
        model: in eval mode.

    Raises:
        ValueError: the model is in training mode.
    """
    if model.training:
        raise ValueError("batch norm is folded for evaluation only; call model.eval() first")
    convs = [m for m in model.modules() if _has_fixed_norm(m)]
    kept = [(conv, conv.weight, conv.bias, conv.norm) for conv in convs]
    try:
        for conv in convs:
            _fold(conv)
        yield model
    finally:
        for conv, weight, bias, norm in kept:
            conv.weight, conv.bias, conv.norm = weight, bias, norm


def _has_fixed_norm(module: nn.Module) -> bool:
    norm = getattr(module, "norm", None)
    return isinstance(module, nn.Conv2d) and isinstance(norm, FrozenBatchNorm2d | nn.BatchNorm2d)


@torch.no_grad()
def _fold(conv: nn.Conv2d) -> None:
    norm = conv.norm
    layout = memory_format(conv.weight)
    weight, bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    weight.data = weight.contiguous(memory_format=layout)
    conv.weight, conv.bias, conv.norm = weight, bias, None


@contextlib.contextmanager
def folded_in_each_forward(model: nn.Module) -> Iterator[nn.Module]:
    """Run a model forward with ``FrozenBatchNorm2d`` folded anew in each convolution.

    For training: unlike :func:`folded_batch_norm` it leaves weights alone, gradients are theirs,
    and the folded ones are not kept for the backward pass, but computed again. Covers Detectron2's
    ``Conv2d``. Differs from the unfolded model by rounding only; hooks of the normalisation are
    not called.
    """
    convs = [m for m in model.modules() if _folds_in_forward(m)]
    for conv in convs:
        conv.forward = functools.partial(_folded_forward, conv)
    try:
        yield model
    finally:
        for conv in convs:
            del conv.forward


def _folds_in_forward(module: nn.Module) -> bool:
    is_known = type(module) is Conv2d and "forward" not in vars(module)  # nobody's own forward
    return is_known and isinstance(module.norm, FrozenBatchNorm2d) and module.bias is None


def _folded_forward(conv: Conv2d, x: Tensor) -> Tensor:
    """What ``conv.forward(x)`` returns, (N, K, H, W), of one convolution and no other pass."""
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
    """Let the graph keep, instead of a tensor, how to compute it."""
    address = tensor.data_ptr()  # the graph keeps the hooks, which must not keep the tensor

    def pack(saved: Tensor):
        return compute if saved.data_ptr() == address else saved

    return saved_tensors_hooks(pack, lambda x: x if isinstance(x, Tensor) else x())
