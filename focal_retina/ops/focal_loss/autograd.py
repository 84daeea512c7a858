"""
The fused losses as functions and operators that PyTorch differentiates and compiles.

The fused backends know one family of losses. A background logit x costs

    s^exponent * softplus(u) / slope,    u = slope * x - offset,    s = sigmoid(u),

with the derivative s^exponent * (s + exponent * (1 - s) * softplus(u)); a foreground logit costs
the same at -x. ``form`` = (exponent, slope, offset) is (gamma, 1, 0) for the focal loss and
(0, gamma, beta) for FL*.
"""

import importlib
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from focal_retina.ops.focal_loss import torch_backend


def fused_loss(
    logits: Sequence[Tensor],
    labels: Tensor,
    weights: Tensor,
    scale: Tensor,
    form: tuple[float, float, float],
    backend: str,
) -> Tensor:
    """
    Return the 0-dim loss of the family above, in :func:`loss_dtype`.

    Args:
        logits: L tensors (N, A*K, H, W), contiguous or channels_last.
        labels: (N, R) int64.
        weights: (2, K) float64, of foreground and of background.
        scale: (N,) float64, factor of each image.
        form: exponent, slope, offset.
        backend: "torch" or "triton".
    """
    if backend == "torch" and _saves_gradient(logits):
        return _SavedGradient.apply(labels, weights, scale, form, *logits)
    return _loss_op(logits, labels, weights, scale, form, backend)


def loss_dtype(logits: Sequence[Tensor]) -> torch.dtype:
    """Return the dtype of the loss: float64 for float64 logits, else float32."""
    return torch.float64 if logits[0].dtype == torch.float64 else torch.float32


def _saves_gradient(logits: Sequence[Tensor]) -> bool:
    """
    Return whether the gradient is computed with the loss and kept for backward.

    That saves a second sweep, but needs to know at backward whether to scale the gradient: only
    free on a CPU, and not traceable. In float16 the gradient, already normalised, would underflow
    before a gradient scaler could help.
    """
    return (
        logits[0].device.type == "cpu"
        and torch.is_grad_enabled()
        and any(x.requires_grad for x in logits)
        and logits[0].dtype != torch.float16
        and not torch.compiler.is_compiling()
    )


class _SavedGradient(torch.autograd.Function):
    """The loss of the "torch" backend, with its gradient computed in the same sweep."""

    @staticmethod
    def forward(ctx, labels, weights, scale, form, *logits):
        loss, grads = torch_backend.focal_loss_and_gradient(logits, labels, weights, scale, form)
        ctx.save_for_backward(*grads)
        return loss.to(loss_dtype(logits))

    @staticmethod
    def backward(ctx, grad_loss):
        grads = ctx.saved_tensors
        if grad_loss != 1:  # never in place: the saved gradient may be asked for again
            grads = [g * grad_loss for g in grads]
        if torch.is_grad_enabled():  # somebody may want to differentiate it
            leaf = torch.zeros((), requires_grad=True)
            grads = [_Constant.apply(g, leaf) for g in grads]
        return None, None, None, None, *grads


class _Constant(torch.autograd.Function):
    """A gradient whose own gradient is not known: asking for it is an error, not 0."""

    @staticmethod
    def forward(ctx, gradient, leaf):
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx, grad):
        _refuse(ctx, grad)


def _refuse(ctx, *grads):
    raise RuntimeError(
        "the fused focal losses cannot be differentiated twice; backend 'reference' can"
    )


# Written out because torch 2.6 cannot read it off the annotations.
_ARGUMENTS = (
    "(Tensor[] logits, Tensor labels, Tensor weights, Tensor scale, float[] form, str backend)"
)


@torch.library.custom_op(
    "focal_retina::sigmoid_focal_loss", mutates_args=(), schema=f"{_ARGUMENTS} -> Tensor"
)
def _loss_op(
    logits: Sequence[Tensor],
    labels: Tensor,
    weights: Tensor,
    scale: Tensor,
    form: Sequence[float],
    backend: str,
) -> Tensor:
    """Return what :func:`fused_loss` does, of the same arguments."""
    loss = _kernels(backend).focal_loss(logits, labels, weights, scale, form)
    return loss.to(loss_dtype(logits))


@torch.library.custom_op(
    "focal_retina::sigmoid_focal_loss_backward",
    mutates_args=(),
    schema=f"{_ARGUMENTS} -> Tensor[]",
)
def _gradient_op(
    logits: Sequence[Tensor],
    labels: Tensor,
    weights: Tensor,
    scale: Tensor,
    form: Sequence[float],
    backend: str,
) -> list[Tensor]:
    """Return the gradient for the logits, computed anew: nothing was saved but the inputs."""
    return _kernels(backend).focal_loss_gradient(logits, labels, weights, scale, form)


@_loss_op.register_fake
def _(logits, labels, weights, scale, form, backend):
    return labels.new_empty((), dtype=loss_dtype(logits))


@_gradient_op.register_fake
def _(logits, labels, weights, scale, form, backend):
    return [torch.empty_like(x) for x in logits]


def _setup_context(ctx, inputs, output):
    logits, labels, weights, scale, ctx.form, ctx.backend = inputs
    ctx.save_for_backward(labels, weights, scale, *logits)


def _backward(ctx, grad_loss):
    labels, weights, scale, *logits = ctx.saved_tensors
    scale = scale * grad_loss  # before rounding to the logits' dtype
    grads = _gradient_op(logits, labels, weights, scale, ctx.form, ctx.backend)
    return grads, None, None, None, None, None


_loss_op.register_autograd(_backward, setup_context=_setup_context)
_gradient_op.register_autograd(_refuse)


def _kernels(backend: str) -> ModuleType:
    """Return the module of a fused backend; triton's only now, as it may not be installed."""
    return importlib.import_module(f"focal_retina.ops.focal_loss.{backend}_backend")
