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

from focal_retina.acceleration.winograd_basis import (
    transform_gradient,
    transform_input,
    transform_output,
    transform_weight,
    transform_weight_gradient,
)

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

    def apply(self, transform: Callable, x: Tensor, out: Tensor) -> Tensor:
        """Return ``out``, to which a transform of the first axis of ``x`` is written."""
        transform(x, out, self.take("scratch", 2, *out.shape[1:]))
        return out


def transform_kernel(weight: Tensor, workspace: Workspace, *, rotated: bool = False) -> Tensor:
    """Return the points (36, K, C) of a weight (K, C, 3, 3), or of it rotated by 180 degrees."""
    kernel = workspace.take("kernel", 6, 6, *weight.shape[:2])
    weight = weight.permute(2, 3, 0, 1)  # (y, x, K, C)
    weight = weight.flip(0, 1) if rotated else weight
    for lines, points in _parts(weight, kernel):
        half = workspace.take("halfway", 6, *lines.shape[1:])
        workspace.apply(transform_weight, lines, half)
        workspace.apply(transform_weight, half.transpose(0, 1), points.transpose(0, 1))
    return kernel.view(36, *kernel.shape[2:])


def count_tiles(x: Tensor) -> int:
    """Return T of a batch (N, C, H, W)."""
    return len(x) * -(-x.shape[2] // 4) * -(-x.shape[3] // 4)


def convolve(x: Tensor, kernel: Tensor, bias: Tensor | None, workspace: Workspace) -> Tensor:
    """Return the convolution of stride 1 and padding 1, (N, K, H, W), channels_last.

    Args:
        x: (N, C, H, W), float32.
        kernel: (36, C, K), float32, any strides, see :func:`transform_kernel`.
        bias: (K,), float32, or None for 0.
    """
    out_channels = kernel.shape[2]
    n, _, height, width = x.shape
    y = torch.empty(n, out_channels, height, width, memory_format=torch.channels_last)
    pixels = y.permute(0, 2, 3, 1)
    inputs = _Tiles(x, 6, transform_input, _STEP // max(x.shape[1], out_channels), workspace)
    for image, top, tiles in inputs:
        product = workspace.take("points 4", 36, tiles.shape[1], out_channels)
        torch.bmm(tiles, kernel, out=product)
        if bias is not None:
            product[7] += bias  # the point (1, 1), which every output contains once
        shape = (6, 6, -1, inputs.columns, out_channels)
        _write(product.view(shape), pixels[image, top:], workspace)
    return y


def weight_gradient(x: Tensor, grad: Tensor, workspace: Workspace) -> Tensor:
    """Return the gradient (K, C, 3, 3) of the weight of :func:`convolve`.

    Args:
        x: (N, C, H, W), float32.
        grad: of the output, (N, K, H, W), float32.
    """
    in_channels, out_channels = x.shape[1], grad.shape[1]
    total = workspace.take("total", 36, out_channels, in_channels)
    step = _STEP // max(in_channels, out_channels)
    inputs = _Tiles(x, 6, transform_input, step, workspace)
    outputs = _Tiles(grad, 4, transform_gradient, step, workspace)
    beta = 0
    for (_, _, tiles), (_, _, grads) in zip(inputs, outputs, strict=True):
        torch.baddbmm(total, grads.transpose(1, 2), tiles, beta=beta, out=total)
        beta = 1
    gradient = torch.empty(out_channels, in_channels, 3, 3, memory_format=torch.channels_last)
    total = total.view(6, 6, out_channels, in_channels)
    for points, lines in _parts(total, gradient.permute(2, 3, 0, 1)):
        half = workspace.take("halfway", 3, *points.shape[1:])
        workspace.apply(transform_weight_gradient, points, half)
        workspace.apply(transform_weight_gradient, half.transpose(0, 1), lines.transpose(0, 1))
    return gradient


def _parts(*kernels: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split tensors (side, side, K, C) along K into parts that fit a step."""
    step = max(_STEP // kernels[0].shape[3], 1)
    yield from zip(*(x.split(step, dim=2) for x in kernels), strict=True)


class _Tiles:
    """The tiles of a batch, a few rows at a time.

    Args:
        x: (N, C, H, W).
        side: of a tile, 4 or 6 pixels. Tiles start every 4 pixels; those of 6 have a margin of one
            pixel around these 4.
        transform: from ``side`` pixels to 6 points.
        step: most tiles at a time, but at least one row of them.
    """

    def __init__(self, x: Tensor, side: int, transform: Callable, step: int, workspace: Workspace):
        self.x, self.side, self.transform = x.permute(0, 2, 3, 1), side, transform
        self.workspace = workspace
        _, self.height, self.width, self.channels = self.x.shape
        self.num_rows, self.columns = -(-self.height // 4), -(-self.width // 4)
        steps = -(-self.num_rows // max(step // self.columns, 1))
        self.rows = -(-self.num_rows // steps)
        self.margin = side - 4

    def __iter__(self) -> Iterator[tuple[int, int, Tensor]]:
        """Yield image, first row of pixels, and transformed tiles (36, T, C)."""
        height, width = (4 * count + self.margin for count in (self.rows, self.columns))
        band = self.workspace.take(f"band {self.side}", height, width, self.channels)
        band.zero_()  # at the left and right it stays 0
        for image in range(len(self.x)):
            for row in range(0, self.num_rows, self.rows):
                rows = min(self.rows, self.num_rows - row)
                self._fill(band, self.x[image], 4 * row - self.margin // 2)
                yield image, 4 * row, self._transform(band[: 4 * rows + self.margin])

    def _fill(self, band: Tensor, image: Tensor, top: int) -> None:
        """Copy the rows of pixels from ``top``, 0 outside of the image."""
        left = self.margin // 2
        start, stop = max(-top, 0), min(len(band), self.height - top)
        band[:start].zero_()
        band[start:stop, left : left + self.width] = image[top + start : top + stop]
        band[stop:].zero_()

    def _transform(self, band: Tensor) -> Tensor:
        lines = self._windows(band, 0)  # (side, rows, width, C)
        half = self.workspace.take("halfway", 6, *lines.shape[1:])
        self.workspace.apply(self.transform, lines, half)
        columns = self._windows(half, 2)  # (side, 6, rows, columns, C)
        points = self.workspace.take(f"points {self.side}", 6, *columns.shape[1:])
        self.workspace.apply(self.transform, columns, points.transpose(0, 1))
        return points.view(36, -1, self.channels)

    def _windows(self, x: Tensor, axis: int) -> Tensor:
        return x.unfold(axis, self.side, 4).movedim(-1, 0)


def _write(points: Tensor, y: Tensor, workspace: Workspace) -> None:
    """Write tiles (6, 6, rows, columns, K) to ``y`` (H, W, K), as far as they lie inside."""
    _, _, rows, columns, channels = points.shape
    half = workspace.take("halfway", 4, *points.shape[1:])
    workspace.apply(transform_output, points, half)
    height, width = min(4 * rows, len(y)), y.shape[1]
    fits = height == 4 * rows and width == 4 * columns
    whole = y[:height] if fits else workspace.take("edge", 4 * rows, 4 * columns, channels)
    tiles = whole.view(rows, 4, columns, 4, channels).permute(3, 1, 0, 2, 4)
    workspace.apply(transform_output, half.transpose(0, 1), tiles)
    if not fits:
        y[:height] = whole[:height, :width]
