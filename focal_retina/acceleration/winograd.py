"""3x3 convolution by Winograd's algorithm, F(4x4, 3x3), on a CPU.

A change of basis makes the convolution of a tile an elementwise product of 6 x 6 points. So 4 x 4
outputs take 36 multiplications for each pair of channels instead of 144. Over all channels and
tiles, each of the 36 points is one product of matrices. Source: Lavin and Gray, arXiv:1509.09308.

Legend: C channels in, K channels out; T tiles of 4 x 4 outputs, which see 6 x 6 inputs each.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from focal_retina.acceleration import winograd_basis as basis

# Tiles times channels in a step: enough for products of matrices at full speed, few enough to stay
# in the caches.
_STEP = 90_000


class Workspace:
    """Memory that calls use one after another: fresh memory costs a page fault for each 4 KiB."""

    def __init__(self) -> None:
        self._memory: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Return an uninitialised float32 tensor, in the memory of the last one of that name."""
        size = math.prod(shape)
        if name not in self._memory or len(self._memory[name]) < size:
            self._memory[name] = torch.empty(size)
        return self._memory[name][:size].view(shape)

    def apply(self, transform: Callable, x: Tensor, out: Tensor) -> None:
        """Write a transform of the first axis of ``x`` to ``out``."""
        transform(x, out, self.take("scratch", 2, *out.shape[1:]))


def transform_kernel(weight: Tensor, workspace: Workspace, *, rotated: bool = False) -> Tensor:
    """Return the points (36, K, C) of a weight (K, C, 3, 3), or of it rotated by 180 degrees."""
    kernel = workspace.take("kernel", 6, 6, *weight.shape[:2])
    weight = weight.permute(2, 3, 0, 1)  # (y, x, K, C)
    weight = weight.flip(0, 1) if rotated else weight
    _transform_by_parts(basis.transform_weight, weight, kernel, workspace)
    return kernel.view(36, *kernel.shape[2:])


def convolve(x: Tensor, kernel: Tensor, bias: Tensor | None, workspace: Workspace) -> Tensor:
    """Return the convolution of stride 1 and padding 1, (N, K, H, W), channels_last, float32.

    Args:
        x: (N, C, H, W).
        kernel: (36, C, K), any strides, see :func:`transform_kernel`.
        bias: (K,), or None for 0.
    """
    out_channels = kernel.shape[2]
    n, _, height, width = x.shape
    y = torch.empty(n, out_channels, height, width, memory_format=torch.channels_last)
    pixels = y.permute(0, 2, 3, 1)
    step = _STEP // max(x.shape[1], out_channels)
    for image, top, tiles in _tiles(x, 6, basis.transform_input, step, workspace):
        product = workspace.take("points 4", 36, tiles.shape[1], out_channels)
        torch.bmm(tiles, kernel, out=product)
        if bias is not None:
            product[7] += bias  # the point (1, 1), which every output contains once
        points = product.view(6, 6, -1, -(-width // 4), out_channels)
        _write(points, pixels[image, top:], workspace)
    return y


def weight_gradient(x: Tensor, grad: Tensor, workspace: Workspace) -> Tensor:
    """Return the gradient (K, C, 3, 3) of the weight of :func:`convolve`.

    ``x`` is its input (N, C, H, W), and ``grad`` the gradient of its output (N, K, H, W).
    """
    in_channels, out_channels = x.shape[1], grad.shape[1]
    total = workspace.take("total", 36, out_channels, in_channels)
    step = _STEP // max(in_channels, out_channels)
    inputs = _tiles(x, 6, basis.transform_input, step, workspace)
    outputs = _tiles(grad, 4, basis.transform_gradient, step, workspace)
    beta = 0
    for (_, _, tiles), (_, _, grads) in zip(inputs, outputs, strict=True):
        torch.baddbmm(total, grads.transpose(1, 2), tiles, beta=beta, out=total)
        beta = 1
    gradient = torch.empty(out_channels, in_channels, 3, 3, memory_format=torch.channels_last)
    total = total.view(6, 6, out_channels, in_channels)
    kernel = gradient.permute(2, 3, 0, 1)
    _transform_by_parts(basis.transform_weight_gradient, total, kernel, workspace)
    return gradient


def _transform_by_parts(transform: Callable, x: Tensor, out: Tensor, workspace: Workspace) -> None:
    """Transform both first axes of (side, side, K, C), in parts of K that fit a step."""
    step = max(_STEP // x.shape[3], 1)
    for part, part_out in zip(x.split(step, dim=2), out.split(step, dim=2), strict=True):
        half = workspace.take("halfway", len(out), *part.shape[1:])
        workspace.apply(transform, part, half)
        workspace.apply(transform, half.transpose(0, 1), part_out.transpose(0, 1))


def _tiles(
    x: Tensor, side: int, transform: Callable, step: int, workspace: Workspace
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield image, first row of pixels, and transformed tiles (36, T, C), some rows at a time.

    Args:
        x: (N, C, H, W).
        side: of a tile, 4 or 6 pixels. Tiles start every 4 pixels; those of 6 have a margin of one
            pixel around these 4.
        transform: from ``side`` pixels to 6 points.
        step: most tiles at a time, but at least one row of them.
    """
    _, channels, height, width = x.shape
    num_rows, columns = -(-height // 4), -(-width // 4)
    steps = -(-num_rows // max(step // columns, 1))
    rows, margin = -(-num_rows // steps), side - 4
    size = 4 * rows + margin, 4 * columns + margin, channels
    band = workspace.take(f"band {side}", *size).zero_()  # at the left and right it stays 0
    inside = band[:, margin // 2 : margin // 2 + width]
    for number, image in enumerate(x.permute(0, 2, 3, 1)):
        for row in range(0, num_rows, rows):
            _copy_rows(inside, image, 4 * row - margin // 2)
            part = band[: 4 * min(rows, num_rows - row) + margin]
            lines = part.unfold(0, side, 4).movedim(-1, 0)  # (side, rows, width, C)
            half = workspace.take("halfway", 6, *lines.shape[1:])
            workspace.apply(transform, lines, half)
            windows = half.unfold(2, side, 4).movedim(-1, 0)  # (side, 6, rows, columns, C)
            points = workspace.take(f"points {side}", 6, *windows.shape[1:])
            workspace.apply(transform, windows, points.transpose(0, 1))
            yield number, 4 * row, points.view(36, -1, channels)


def _copy_rows(band: Tensor, image: Tensor, top: int) -> None:
    """Copy the rows of an image (H, W, C) from ``top`` on to a band, 0 outside of the image."""
    start, stop = max(-top, 0), min(len(band), len(image) - top)
    band[:start].zero_()
    band[start:stop] = image[top + start : top + stop]
    band[stop:].zero_()


def _write(points: Tensor, y: Tensor, workspace: Workspace) -> None:
    """Write tiles (6, 6, rows, columns, K) to ``y`` (H, W, K), as far as they lie inside."""
    _, _, rows, columns, channels = points.shape
    half = workspace.take("halfway", 4, *points.shape[1:])
    workspace.apply(basis.transform_output, points, half)
    height, width = min(4 * rows, len(y)), y.shape[1]
    fits = height == 4 * rows and width == 4 * columns
    whole = y[:height] if fits else workspace.take("edge", 4 * rows, 4 * columns, channels)
    tiles = whole.view(rows, 4, columns, 4, channels).permute(3, 1, 0, 2, 4)
    workspace.apply(basis.transform_output, half.transpose(0, 1), tiles)
    if not fits:
        y[:height] = whole[:height, :width]
