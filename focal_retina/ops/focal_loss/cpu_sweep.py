"""The background logits on a CPU: loss and gradient in one sweep, that is one pass over memory.

Legend: as in ``torch_backend``. Positions count the elements of one image and level in memory.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from focal_retina.ops.focal_loss.form import LossForm
from focal_retina.ops.reference import loss_dtype

# Elements of all buffers together, a multiple of 6: few enough to stay in the caches, enough to use
# all threads (ATen runs tensors below 32,768 elements on one) and to make calls cheap.
_BUFFER_SIZE = 6 * 180_000

_NEGATIVE_ZEROS = torch.full((64,), -0.0)


def buffer_like(logits: Sequence[Tensor]) -> Tensor:
    """Return a tensor without memory, like the buffer that :func:`background_sweep` needs."""
    size = max(_BUFFER_SIZE, *(6 * x[0, 0].numel() for x in logits))
    return torch.empty(size, dtype=loss_dtype(logits[0]), device="meta")


def background_sweep(
    x: Tensor,
    g: Tensor | None,
    foreground: Tensor,
    ignored: Tensor,
    weights: Tensor,
    form: LossForm,
    buffer: Tensor,
) -> float:
    """Return the loss of the background logits of one image and level.

    Args:
        x: logits (P, K, Q), contiguous.
        g: their gradient, written unless None; 0 for the logits that are not background.
        foreground: (F,) positions of the foreground logits, ascending.
        ignored: (I,) positions of the logits of class 0 of ignored anchors, ascending.
        weights: (K,) float64.
        buffer: see :func:`buffer_like`.
    """
    # log1p reads a constant behind a mask. Until the page of the constant is mapped, each such read
    # costs a hundred cycles. Only a -0 reads it without the mask, which maps the page.
    torch.log1p(_NEGATIVE_ZEROS)
    planes, num_classes, pixels = x.shape
    class_steps = torch.arange(num_classes) * pixels
    sorted_foreground, sorted_ignored = foreground.tolist(), ignored.tolist()
    by_class = weights.to(buffer.dtype)[:, None].expand(-1, pixels)
    for_all = weights[0].item() if bool((weights == weights[0]).all()) else None
    in_gradient = g is not None and g.dtype == buffer.dtype  # the third buffer
    buffers = buffer.view(2 if in_gradient else 3, -1)
    x, g = x.view(-1), None if g is None else g.view(-1)
    total = 0.0
    for start, first, stop, classes in _chunks(planes, num_classes, pixels, buffers.shape[1]):
        excluded = foreground[_between(sorted_foreground, start, stop)]
        ignored_here = ignored[_between(sorted_ignored, first, stop), None]
        if len(ignored_here):
            excluded = torch.cat([excluded, (ignored_here + class_steps[classes]).view(-1)])
        out = None if g is None else g[start:stop]
        step = [*buffers[:, : stop - start], out][:3]
        weight = by_class[classes] if for_all is None else for_all
        total += _background(x[start:stop], out, excluded - start, weight, form, step)
    return total


def _chunks(
    planes: int, num_classes: int, pixels: int, size: int
) -> Iterator[tuple[int, int, int, slice]]:
    """Yield start, start of the plane, stop and classes of contiguous parts of (P, K, Q)."""
    plane = num_classes * pixels
    plane_step = min(max(size // plane, 1), planes)
    class_step = min(max(size // pixels, 1), num_classes)
    for p in range(0, planes, plane_step):
        last_plane = min(p + plane_step, planes) - 1
        for k in range(0, num_classes, class_step):
            classes = slice(k, min(k + class_step, num_classes))
            stop = last_plane * plane + classes.stop * pixels
            yield p * plane + k * pixels, p * plane, stop, classes


def _between(ascending: list[int], start: int, stop: int) -> slice:
    return slice(bisect_left(ascending, start), bisect_left(ascending, stop))


def _background(
    x: Tensor,
    out: Tensor | None,
    excluded: Tensor,
    weight: float | Tensor,
    form: LossForm,
    buffers: Sequence[Tensor],
) -> float:
    """Return the loss of a chunk without ``excluded``, and write the gradient to ``out``."""
    exponent, slope, offset = form
    s, log_miss, factor = buffers
    low, high = _bounds(x)
    if len(excluded) and not (low > -math.inf and slope * high - offset < 1):
        low, high = _bounds(x.index_fill(0, excluded, torch.finfo(x.dtype).min))
    u = x if x.dtype == s.dtype else factor.copy_(x)
    u = u if (slope, offset) == (1, 0) else torch.mul(u, slope, out=factor).sub_(offset)
    torch.sigmoid(u, out=s).index_fill_(0, excluded, 0)
    if slope * high - offset < 1:
        torch.log1p(torch.neg(s, out=log_miss), out=log_miss)  # log(1 - s), faster than softplus
    else:  # exact also where 1 - s cancels
        torch.ops.aten.softplus.out(u, 1, 20, out=log_miss).neg_().index_fill_(0, excluded, 0)
    torch.pow(s, exponent, out=factor)
    if isinstance(weight, Tensor):
        factor.view(-1, *weight.shape).mul_(weight)
        weight = 1.0
    if exponent and out is not None:  # -(s / exponent + (1 - s) * softplus)
        torch.lerp(log_miss, s.new_full((), -1 / exponent), s, out=s)
    loss = log_miss.mul_(factor).sum().item() * (-weight / slope)
    if out is not None:
        scale = -exponent * weight if exponent else weight
        torch.addcmul(s.new_zeros(()), s, factor, value=scale, out=out)
    return loss + low * 0  # NaN for -infinity too, whose loss would be 0


def _bounds(x: Tensor) -> tuple[float, float]:
    low, high = torch.aminmax(x)
    return low.item(), high.item()
