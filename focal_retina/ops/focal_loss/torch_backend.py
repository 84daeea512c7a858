"""Focal loss over the logits' own memory, with ATen operations.

Nearly every logit is background, and background needs no targets. On a CPU a sweep takes all
logits for background (``cpu_sweep``), and the few foreground logits are added on their own, in
float64. On other devices finding the foreground would wait for the device, so dense masks tell the
logits apart.

Legend (formulas: ``form``): one image and level has logits (P, K, Q), contiguous. A contiguous
feature map has P = A and Q = H*W, a channels_last one has P = H*W*A and Q = 1. In both the labels,
in anchor order, are (Q*P,).
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from focal_retina.ops.focal_loss.cpu_sweep import background_sweep, buffer_like
from focal_retina.ops.focal_loss.form import LossForm, LossTargets
from focal_retina.ops.memory import reused_empty_like
from focal_retina.ops.reference import loss_dtype

# Logits per step off the CPU: enough to keep a GPU busy, temporaries of 16 MiB each.
_CHUNK = 1 << 22

# Taken for a background logit it has loss and gradient 0. Finite, as infinite logits must show.
_NO_LOGIT = -1e30


def focal_loss(logits: Sequence[Tensor], targets: LossTargets) -> Tensor:
    """Return the 0-dim loss, float64."""
    return loss_and_gradient(logits, targets, gradient=False)[0]


def focal_loss_gradient(logits: Sequence[Tensor], targets: LossTargets) -> list[Tensor]:
    """Return the gradient in the dtypes and memory formats of the logits."""
    return loss_and_gradient(logits, targets)[1]


def loss_and_gradient(
    logits: Sequence[Tensor], targets: LossTargets, *, gradient: bool = True
) -> tuple[Tensor, list[Tensor]]:
    """Return the loss and, unless ``gradient`` is off, the gradient, in one sweep."""
    labels, weights, scale, form = targets
    num_classes = weights.shape[1]
    sweep: Callable[..., Tensor] = _dense_sweep
    if labels.device.type == "cpu":
        *grads, buffer = reused_empty_like([*(logits if gradient else []), buffer_like(logits)])
        sweep = partial(_sparse_sweep, buffer=buffer)
    else:
        grads = [torch.empty_like(x) for x in logits] if gradient else []
    total = torch.zeros_like(scale[0])
    start = 0
    for level, x in enumerate(logits):
        x = _in_memory_order(x, num_classes)
        g = _in_memory_order(grads[level], num_classes) if gradient else [None] * len(x)
        stop = start + x[0, :, 0].numel()
        for n, y in enumerate(labels[:, start:stop]):
            total += sweep(x[n], g[n], y, weights * scale[n], form)
        start = stop
    return total, grads


def _in_memory_order(x: Tensor, num_classes: int) -> Tensor:
    """Return a contiguous view (N, P, K, Q) of (N, A*K, H, W)."""
    n, channels, h, w = x.shape
    if x.is_contiguous():
        return x.view(n, channels // num_classes, num_classes, h * w)
    return x.permute(0, 2, 3, 1).view(n, h * w * (channels // num_classes), num_classes, 1)


def _sparse_sweep(
    x: Tensor, g: Tensor | None, labels: Tensor, weights: Tensor, form: LossForm, *, buffer: Tensor
) -> Tensor:
    """Return the loss of one image and level, and write its gradient to ``g`` unless None."""
    planes, num_classes, pixels = x.shape
    anchor = (labels != num_classes).nonzero()[:, 0]
    label = labels[anchor]
    position = anchor % planes * num_classes * pixels + anchor // planes  # of class 0 in memory
    is_foreground = label >= 0
    ignored = position[~is_foreground].sort().values
    label = label[is_foreground]
    foreground, order = (position[is_foreground] + label * pixels).sort()
    loss = background_sweep(x, g, foreground, ignored, weights[1], form, buffer)
    own = x.view(-1)[foreground].double()
    own_loss, gradient = _terms(-own, weights[0, label[order]], form)
    if g is not None:
        g.view(-1)[foreground] = -gradient.to(g.dtype)
    return own_loss + loss


def _dense_sweep(
    x: Tensor, g: Tensor | None, labels: Tensor, weights: Tensor, form: LossForm
) -> Tensor:
    """Do the same without asking where the objects are."""
    planes, num_classes, pixels = x.shape
    labels = labels.reshape(pixels, planes).t()
    classes = torch.arange(num_classes, device=x.device)[:, None]
    foreground, background = weights[..., None].to(loss_dtype(x))
    step = max(_CHUNK // (num_classes * pixels), 1)
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for start in range(0, planes, step):
        chunk = slice(start, start + step)
        y = labels[chunk, None]  # (P, 1, Q)
        is_foreground = y == classes  # (P, K, Q)
        z = x[chunk].to(loss_dtype(x))
        z = torch.where(is_foreground, -z, z).masked_fill(y < 0, _NO_LOGIT)
        loss, gradient = _terms(z, torch.where(is_foreground, foreground, background), form)
        total += loss
        if g is not None:
            g[chunk] = torch.where(is_foreground, -gradient, gradient)
    return total


def _terms(x: Tensor, weight: Tensor, form: LossForm) -> tuple[Tensor, Tensor]:
    """Return the summed loss of logits taken for background, and the gradient."""
    u = form.slope * x - form.offset
    s = torch.sigmoid(u)
    softplus = F.softplus(u, threshold=40)
    factor = weight * s**form.exponent
    loss = (factor * softplus).sum() / form.slope + x.sum() * 0  # the last: NaN for -infinity too
    return loss, factor * (s + form.exponent * (1 - s) * softplus)
