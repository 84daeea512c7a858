"""
Focal loss as two Triton kernels: the loss, and the gradient, which computes everything anew.

Both read the logits in their own layout and the labels next to them, and store nothing else.
Checked in Triton's interpreter; never timed on a GPU.

Legend (formulas: focal_loss_autograd.py): a program takes ``block_r`` anchors times ``block_k``
classes of one image and level. It counts anchors in memory order: (A, H*W) in a contiguous feature
map (``by_plane``), (H*W, A), which is the order of the labels, in a channels_last one.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 2048  # logits of a program


def focal_loss(
    logits: Sequence[Tensor], labels: Tensor, weights: Tensor, scale: Tensor, form: Sequence[float]
) -> Tensor:
    """Return the 0-dim loss, float64; the arguments are those of ``fused_loss``."""
    total = torch.zeros_like(scale[0])
    for x, launch, num_programs in _levels(logits, labels, weights, form):
        partial = x.new_empty(len(x), num_programs, dtype=torch.float32)
        launch(_loss_kernel, partial)
        total += (partial.sum(1, dtype=torch.float64) * scale).sum()
    return total


def focal_loss_gradient(
    logits: Sequence[Tensor], labels: Tensor, weights: Tensor, scale: Tensor, form: Sequence[float]
) -> list[Tensor]:
    """Return the gradient in the logits' dtypes and memory formats; the arguments are the same."""
    grads = []
    scale = scale.float()
    for x, launch, _ in _levels(logits, labels, weights, form):
        grads.append(torch.empty_like(x))
        launch(_gradient_kernel, grads[-1], scale)
    return grads


def _levels(
    logits: Sequence[Tensor], labels: Tensor, weights: Tensor, form: Sequence[float]
) -> Iterator[tuple[Tensor, Callable, int]]:
    """Yield each level's logits, a function that launches a kernel on them, and its programs."""
    num_classes = weights.shape[1]
    labels, weights = labels.contiguous(), weights.float().contiguous()
    block_k = min(triton.next_power_of_2(num_classes), 16)
    block_r = _BLOCK // block_k
    start = 0
    for x in logits:
        n, channels, h, w = x.shape
        anchors = channels // num_classes * h * w
        grid = triton.cdiv(anchors, block_r), triton.cdiv(num_classes, block_k), n
        args = (labels[:, start:], weights, num_classes, h * w, anchors, labels.shape[1], *form)
        blocks = {"by_plane": x.is_contiguous(), "block_r": block_r, "block_k": block_k}

        def launch(kernel, *outputs, x=x, grid=grid, args=args, blocks=blocks):
            with torch.cuda.device_of(x):
                kernel[grid](x, *outputs, *args, **blocks)

        yield x, launch, grid[0] * grid[1]
        start += anchors


@triton.jit
def _loss_kernel(
    x_ptr,
    partial_ptr,
    label_ptr,
    weight_ptr,
    num_classes,
    pixels,
    anchors,
    label_stride,
    exponent,
    slope,
    offset,
    by_plane: tl.constexpr,
    block_r: tl.constexpr,
    block_k: tl.constexpr,
):
    """Write the loss of each program's tile; its factor ``scale`` is left to the caller."""
    position, label, k, mask = _tile(
        label_ptr, num_classes, pixels, anchors, label_stride, by_plane, block_r, block_k
    )
    x = tl.load(x_ptr + position, mask=mask, other=0.0).to(tl.float32)
    is_foreground = label == k
    _, _, softplus, factor = _terms(
        x, is_foreground, weight_ptr, k, num_classes, exponent, slope, offset
    )
    loss = factor * softplus / slope + x * 0  # the last: NaN for -infinity too
    loss = tl.sum(tl.sum(tl.where(mask & (label >= 0), loss, 0.0), axis=1), axis=0)
    program = tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)
    tl.store(partial_ptr + program * tl.num_programs(0) + tl.program_id(0), loss)


@triton.jit
def _gradient_kernel(
    x_ptr,
    gradient_ptr,
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
    by_plane: tl.constexpr,
    block_r: tl.constexpr,
    block_k: tl.constexpr,
):
    """Write the gradient, times ``scale`` before it is rounded to the logits' dtype."""
    position, label, k, mask = _tile(
        label_ptr, num_classes, pixels, anchors, label_stride, by_plane, block_r, block_k
    )
    x = tl.load(x_ptr + position, mask=mask, other=0.0).to(tl.float32)
    is_foreground = label == k
    s, miss, softplus, factor = _terms(
        x, is_foreground, weight_ptr, k, num_classes, exponent, slope, offset
    )
    gradient = factor * (s + exponent * miss * softplus) * tl.load(scale_ptr + tl.program_id(2))
    gradient = tl.where(is_foreground, -gradient, gradient)
    gradient = tl.where(label >= 0, gradient, 0.0)
    tl.store(gradient_ptr + position, gradient.to(gradient_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _tile(
    label_ptr,
    num_classes,
    pixels,
    anchors,
    label_stride,
    by_plane: tl.constexpr,
    block_r: tl.constexpr,
    block_k: tl.constexpr,
):
    """Return positions (block_r, block_k) of logits, labels (block_r, 1), classes and mask."""
    image = tl.program_id(2).to(tl.int64)  # int64: logits may number more than 2^31
    r = tl.program_id(0).to(tl.int64) * block_r + tl.arange(0, block_r)[:, None]
    k = tl.program_id(1).to(tl.int64) * block_k + tl.arange(0, block_k)[None, :]
    if by_plane:
        plane = r // pixels
        pixel = r % pixels
        position = (plane * num_classes + k) * pixels + pixel
        anchor = pixel * (anchors // pixels) + plane
    else:
        position = r * num_classes + k
        anchor = r
    label = tl.load(label_ptr + image * label_stride + anchor, mask=r < anchors, other=-1)
    return image * anchors * num_classes + position, label, k, (r < anchors) & (k < num_classes)


@triton.jit
def _terms(x, is_foreground, weight_ptr, k, num_classes, exponent, slope, offset):
    """Return s, 1 - s, softplus and weight * s^exponent; foreground is background at -x."""
    u = slope * tl.where(is_foreground, -x, x) - offset
    e = tl.exp(-tl.abs(u))
    rounded = 1.0 + e
    # log1p(e): the quotient undoes the rounding of 1 + e, which would be all that is left of it.
    kept = tl.where(rounded == 1.0, 1.0, rounded - 1.0)
    log1p = tl.where(rounded == 1.0, e, tl.log(rounded) * (e / kept))
    softplus = tl.maximum(u, 0.0) + log1p
    s = tl.where(u > 0, 1.0, e) / rounded
    miss = tl.where(u > 0, e, 1.0) / rounded
    log_s = tl.minimum(u, 0.0) - log1p
    in_range = k < num_classes
    foreground = tl.load(weight_ptr + k, mask=in_range, other=0.0)
    background = tl.load(weight_ptr + num_classes + k, mask=in_range, other=0.0)
    weight = tl.where(is_foreground, foreground, background)
    return s, miss, softplus, weight * tl.exp(exponent * log_s)
