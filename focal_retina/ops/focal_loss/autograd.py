"""The fused losses as functions and operators that PyTorch differentiates and compiles."""

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from focal_retina.ops.focal_loss import torch_backend
from focal_retina.ops.focal_loss.form import LossForm, LossTargets
from focal_retina.ops.reference import loss_dtype


def fused_loss(logits: Sequence[Tensor], targets: LossTargets, backend: str) -> Tensor:
    """Return the 0-dim loss of :mod:`.form`, in the dtype that ``loss_dtype`` gives.

    ``logits`` are contiguous or channels_last; ``backend`` is "torch" or "triton".
    """
    if backend == "torch" and _saves_gradient(logits):
        return _SavedGradient.apply(targets, *logits)
    labels, weights, scale, form = targets
    return _loss_op(logits, labels, weights, scale, list(form), backend)


def _saves_gradient(logits: Sequence[Tensor]) -> bool:
    """Return whether the gradient is computed with the loss and kept for backward.

    That saves a second sweep over the logits. But backward then has to look at a value, whether the
    gradient needs scaling: that is only free on a CPU, and cannot be traced. In float16 the
    gradient, which is already normalised, would underflow before a gradient scaler could help.
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
    def forward(ctx: Any, targets: LossTargets, *logits: Tensor) -> Tensor:
        loss, grads = torch_backend.loss_and_gradient(logits, targets)
        ctx.save_for_backward(*grads)
        return loss.to(loss_dtype(logits[0]))

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        grads = ctx.saved_tensors
        if grad_loss != 1:  # never in place: the saved gradient may be asked for again
            grads = [g * grad_loss for g in grads]
        if torch.is_grad_enabled():  # somebody may want to differentiate the gradient
            grads = [g.detach().requires_grad_() for g in grads]
            for g in grads:
                g.register_hook(_refuse)
        return None, *grads


def _refuse(*_: Any) -> None:
    raise RuntimeError(
        "the fused focal losses cannot be differentiated twice; backend 'reference' can"
    )


# Of the operators: the fields of LossTargets one by one, since an operator takes no tuple.
_ARGUMENTS = (
    "(Tensor[] logits, Tensor labels, Tensor weights, Tensor scale, float[] form, str backend)"
)


@torch.library.custom_op(
    "focal_retina::sigmoid_focal_loss", mutates_args=(), schema=f"{_ARGUMENTS} -> Tensor"
)
def _loss_op(logits: Sequence[Tensor], *arguments: Any) -> Tensor:
    """Return what :func:`fused_loss` does."""
    targets, kernels = _targets_and_kernels(*arguments)
    return kernels.focal_loss(logits, targets).to(loss_dtype(logits[0]))


@torch.library.custom_op(
    "focal_retina::sigmoid_focal_loss_backward",
    mutates_args=(),
    schema=f"{_ARGUMENTS} -> Tensor[]",
)
def _gradient_op(logits: Sequence[Tensor], *arguments: Any) -> list[Tensor]:
    """Return the gradient for the logits, computed anew: nothing was saved but the inputs."""
    targets, kernels = _targets_and_kernels(*arguments)
    return kernels.focal_loss_gradient(logits, targets)


@_loss_op.register_fake
def _(logits: Sequence[Tensor], *arguments: Any) -> Tensor:
    return logits[0].new_empty((), dtype=loss_dtype(logits[0]))


@_gradient_op.register_fake
def _(logits: Sequence[Tensor], *arguments: Any) -> list[Tensor]:
    return [torch.empty_like(x) for x in logits]


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    logits, labels, weights, scale, ctx.form, ctx.backend = inputs
    ctx.save_for_backward(labels, weights, scale, *logits)


def _backward(ctx: Any, grad_loss: Tensor) -> tuple:
    labels, weights, scale, *logits = ctx.saved_tensors
    scale = scale * grad_loss  # before rounding to the logits' dtype
    grads = _gradient_op(logits, labels, weights, scale, ctx.form, ctx.backend)
    return grads, None, None, None, None, None


_loss_op.register_autograd(_backward, setup_context=_setup_context)
_gradient_op.register_autograd(_refuse)


def _targets_and_kernels(
    labels: Tensor, weights: Tensor, scale: Tensor, form: Sequence[float], backend: str
) -> tuple[LossTargets, ModuleType]:
    """Return the targets, and the module of a backend: triton's only now, it may be missing."""
    kernels = importlib.import_module(f"focal_retina.ops.focal_loss.{backend}_backend")
    return LossTargets(labels, weights, scale, LossForm(*form)), kernels
