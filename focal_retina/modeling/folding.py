"""Batch normalisation folded into the convolution before it, for evaluation."""

import contextlib
from collections.abc import Iterator

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from focal_retina.ops.memory import memory_format


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
