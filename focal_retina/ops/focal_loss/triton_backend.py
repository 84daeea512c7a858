# mypy: allow-untyped-defs
"""Focal loss as a Triton kernel, for the loss or for the gradient, which computes everything anew.

It reads the logits in their own layout and the labels next to them, and stores nothing else.
Checked in Triton's interpreter; never timed on a GPU.

Legend (formulas: ``form``): a program takes ``block_r`` anchors times ``block_k`` classes of one
image and level. It counts anchors in memory order: (A, H*W) in a contiguous feature map
(``by_plane``), (H*W, A), which is the order of the labels, in a channels_last one.
"""

from collections.abc import Iterator, Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from focal_retina.ops.focal_loss.form import LossTargets

_BLOCK = 2048  # logits of a program


def focal_loss(logits: Sequence[Tensor], targets: LossTargets) -> Tensor:
    """Return the 0-dim loss, float64."""
    total = torch.zeros_like(targets.scale[0])
    for partial in _run(logits, targets, gradient=False):  # (N, programs)
        total += (partial.sum(1, dtype=torch.float64) * targets.scale).sum()
    return total


def focal_loss_gradient(logits: Sequence[Tensor], targets: LossTargets) -> list[Tensor]:
    """Return the gradient in the dtypes and memory formats of the logits."""
    return list(_run(logits, targets, gradient=True))


def _run(logits: Sequence[Tensor], targets: LossTargets, *, gradient: bool) -> Iterator[Tensor]:
    """Run the kernel on each level and yield what it writes."""
    labels, weights = targets.labels.contiguous(), targets.weights.float().contiguous()
    scale = targets.scale.float()
    num_classes = weights.shape[1]
    block_k = min(triton.next_power_of_2(num_classes), 16)
    block_r = _BLOCK // block_k
    start = 0
    for x in logits:
        n, channels, h, w = x.shape
        anchors = channels // num_classes * h * w
        grid = triton.cdiv(anchors, block_r), triton.cdiv(num_classes, block_k), n
        losses = (n, grid[0] * grid[1])
        out = torch.empty_like(x) if gradient else x.new_empty(losses, dtype=torch.float32)
        tensors = x, out, scale, labels[:, start:], weights
        sizes = num_classes, h * w, anchors, labels.shape[1]
        constants = gradient, x.is_contiguous(), block_r, block_k
        with torch.cuda.device_of(x):
            _kernel[grid](*tensors, *sizes, *targets.form, *constants)
        yield out
        start += anchors


@triton.jit
def _kernel(
    x_ptr,
    out_ptr,
    scale_ptr,
    label_ptr,
    weight_ptr,
    num_classes,
    pixels,
    anchors,
    label_stride,
    exponent,
    slope,
    offset,
    gradient: tl.constexpr,
    by_plane: tl.constexpr,
    block_r: tl.constexpr,
    block_k: tl.constexpr,
):
    """Write the gradient, or the loss of each program, whose factor ``scale`` the caller applies.

    The gradient is scaled here, before it is rounded to the dtype of the logits.
    """
    image = tl.program_id(2).to(tl.int64)  # int64: logits may number more than 2^31
    r = tl.program_id(0).to(tl.int64) * block_r + tl.arange(0, block_r)[:, None]
    k = tl.program_id(1).to(tl.int64) * block_k + tl.arange(0, block_k)[None, :]
    mask = (r < anchors) & (k < num_classes)
    position, anchor = r * num_classes + k, r
    if by_plane:
        plane, pixel = r // pixels, r % pixels
        position = (plane * num_classes + k) * pixels + pixel
        anchor = pixel * (anchors // pixels) + plane
    position += image * anchors * num_classes
    label = tl.load(label_ptr + image * label_stride + anchor, mask=r < anchors, other=-1)
    x = tl.load(x_ptr + position, mask=mask, other=0.0).to(tl.float32)
    is_foreground = label == k
    foreground = tl.load(weight_ptr + k, mask=k < num_classes, other=0.0)
    background = tl.load(weight_ptr + num_classes + k, mask=k < num_classes, other=0.0)
    s, miss, softplus, power = _terms(slope * tl.where(is_foreground, -x, x) - offset, exponent)
    factor = tl.where(is_foreground, foreground, background) * power
    if gradient:
        grad = factor * (s + exponent * miss * softplus) * tl.load(scale_ptr + image)
        grad = tl.where(is_foreground, -grad, grad)
        grad = tl.where(label >= 0, grad, 0.0)
        tl.store(out_ptr + position, grad.to(out_ptr.dtype.element_ty), mask=mask)
    else:
        loss = factor * softplus / slope + x * 0  # the last: NaN for -infinity too
        loss = tl.sum(tl.sum(tl.where(mask & (label >= 0), loss, 0.0), axis=1), axis=0)
        program = image * tl.num_programs(1) + tl.program_id(1)
        tl.store(out_ptr + program * tl.num_programs(0) + tl.program_id(0), loss)


@triton.jit
def _terms(u, exponent):
    """Return s = sigmoid(u), 1 - s, softplus(u) and s^exponent."""
    e = tl.exp(-tl.abs(u))
    rounded = 1.0 + e
    # log1p(e): the quotient undoes the rounding of 1 + e, which would be all that is left of it.
    kept = tl.where(rounded == 1.0, 1.0, rounded - 1.0)
    log1p = tl.where(rounded == 1.0, e, tl.log(rounded) * (e / kept))
    softplus = tl.maximum(u, 0.0) + log1p
    s = tl.where(u > 0, 1.0, e) / rounded
    miss = tl.where(u > 0, e, 1.0) / rounded
    log_s = tl.minimum(u, 0.0) - log1p
    return s, miss, softplus, tl.exp(exponent * log_s)
