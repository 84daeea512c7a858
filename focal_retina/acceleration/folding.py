"""Batch normalisation of fixed statistics, folded into the convolution before it."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.utils.fusion import fuse_conv_bn_weights

from focal_retina.ops.memory import memory_format

# Module -> how many contexts have changed it, and what undoes the change: threads share a model.
Changes = WeakKeyDictionary[nn.Module, tuple[int, Callable[[], None]]]
_FOLDED: Changes = WeakKeyDictionary()
_FOLDING: Changes = WeakKeyDictionary()
_LOCK = threading.Lock()


def folded_batch_norm(model: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Evaluate a model with its batch normalisations folded into their convolutions.

    Covers Detectron2's ``Conv2d`` with a ``norm`` of fixed statistics: ``FrozenBatchNorm2d``, or
    ``BatchNorm2d`` in eval mode. Outputs differ by rounding only. On leaving, the model is to the
    bit what it was. Not for training, whose gradients would be those of the folded weights:
    ValueError.
    """
    if model.training:
        raise ValueError("batch norm is folded for evaluation only; call model.eval() first")
    return _changed(model, _FOLDED, _fold)


@torch.no_grad()
def _fold(conv: nn.Module) -> Callable[[], None] | None:
    norms = FrozenBatchNorm2d | nn.BatchNorm2d
    if not (isinstance(conv, Conv2d) and isinstance(conv.norm, norms)):
        return None
    kept = weight, bias, norm = conv.weight, conv.bias, conv.norm
    statistics = norm.running_mean, norm.running_var, norm.eps
    weight, bias = fuse_conv_bn_weights(weight, bias, *statistics, norm.weight, norm.bias)
    weight.data = weight.contiguous(memory_format=memory_format(conv.weight))
    conv.weight, conv.bias, conv.norm = weight, bias, None

    def unfold() -> None:
        conv.weight, conv.bias, conv.norm = kept

    return unfold


def folded_in_each_forward(model: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Run a model forward with each ``FrozenBatchNorm2d`` folded anew into its convolution.

    For training: unlike :func:`folded_batch_norm` it leaves weights alone, and gradients are those
    of the weights. The backward pass computes the folded weights again, which saves memory. Covers
    Detectron2's ``Conv2d``. Outputs differ by rounding only. Hooks of the normalisation are not
    called.
    """
    return _changed(model, _FOLDING, _fold_in_each_forward)


def _fold_in_each_forward(conv: nn.Module) -> Callable[[], None] | None:
    is_plain = type(conv) is Conv2d and "forward" not in vars(conv)
    if not (is_plain and isinstance(conv.norm, FrozenBatchNorm2d) and conv.bias is None):
        return None
    conv.forward = functools.partial(_folded_forward, conv)
    return functools.partial(delattr, conv, "forward")


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


@contextlib.contextmanager
def _changed(
    model: nn.Module, changes: Changes, change: Callable[[nn.Module], Callable[[], None] | None]
) -> Iterator[None]:
    """Change the modules of a model; of several threads the last to leave undoes the change.

    ``change`` returns the function that undoes it, or None for a module that it leaves alone.
    """
    changed = []
    try:
        with _LOCK:
            for module in model.modules():
                count, undo = changes.get(module) or (0, change(module))
                if undo is not None:
                    changes[module] = count + 1, undo
                    changed.append(module)
        yield
    finally:
        with _LOCK:
            for module in changed:
                count, undo = changes.pop(module)
                if count > 1:
                    changes[module] = count - 1, undo
                else:
                    undo()
