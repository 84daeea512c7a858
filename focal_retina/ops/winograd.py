"""
3x3 convolution by Winograd's algorithm, on a CPU (Lavin and Gray, arXiv:1509.09308, F(4x4, 3x3)).

4 x 4 outputs take 36 products for each pair of channels instead of 144, in a basis in which the
convolution of a tile is an elementwise product. Over channels and tiles these are 36 products of
matrices.

Legend: C channels in, K channels out; T tiles of 4 x 4 outputs, which see 6 x 6 inputs each.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

# Tiles times channels in a step: enough for products of matrices at full speed, few enough to stay
# in the caches.
_STEP = 90_000


def _on_both_axes(rows: Sequence[Sequence[float]]) -> Tensor:
    matrix = torch.tensor(rows, dtype=torch.float64)
    return torch.kron(matrix, matrix).float()


# The article's B^T, G and A^T, for flattened tiles and kernels.
_INPUT = _on_both_axes(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)  # (36, 36)
_KERNEL = _on_both_axes(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)  # (36, 9)
_OUTPUT = _on_both_axes(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
)  # (16, 36)


class Workspace:
    """Memory that calls use one after another: fresh memory costs a page fault for each 4 KiB."""

    def __init__(self):
        self._memory: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Return an uninitialised float32 tensor, in the memory of the last one of that name."""
        size = math.prod(shape)
        if name not in self._memory or len(self._memory[name]) < size:
            self._memory[name] = torch.empty(size)
        return self._memory[name][:size].view(shape)


def transform_kernel(
    weight: Tensor, turned: bool = False, workspace: Workspace | None = None
) -> Tensor:
    """Return (36, K, C) for the weight (K, C, 3, 3) of a convolution; ``turned`` by 180 degrees."""
    out_channels, in_channels = weight.shape[:2]
    take = (workspace or Workspace()).take
    flat = take("weight", 3, 3, out_channels, in_channels).copy_(weight.permute(2, 3, 0, 1))
    kernel = take("kernel", 36, out_channels, in_channels)
    basis = _KERNEL.flip(1) if turned else _KERNEL
    torch.mm(basis, flat.view(9, -1), out=kernel.view(36, -1))
    return kernel


def count_tiles(x: Tensor) -> int:
    """Return T of a batch (N, C, H, W)."""
    return len(x) * -(-x.shape[2] // 4) * -(-x.shape[3] // 4)


def convolve(
    x: Tensor, kernel: Tensor, bias: Tensor | None = None, workspace: Workspace | None = None
) -> Tensor:
    """
    Return the convolution of stride 1 and padding 1, (N, K, H, W), channels_last.

    Args:
        x: (N, C, H, W), float32.
        kernel: (36, C, K), float32, any strides, see :func:`transform_kernel`.
        bias: (K,), float32, or None for 0.
    """
    out_channels = kernel.shape[2]
    n, _, height, width = x.shape
    y = torch.empty(n, out_channels, height, width, memory_format=torch.channels_last)
    pixels = y.permute(0, 2, 3, 1)
    workspace = workspace or Workspace()
    inputs = _Tiles(x, 6, _INPUT, _STEP // max(x.shape[1], out_channels), workspace)
    bias = x.new_zeros(out_channels) if bias is None else bias
    for image, top, tiles in inputs:
        num = tiles.shape[1]
        product = workspace.take("points 4", 36, num, out_channels)
        torch.bmm(tiles, kernel, out=product)
        output = workspace.take("tiles 4", 16, num * out_channels)
        torch.mm(_OUTPUT, product.view(36, -1), out=output)
        output = output.view(4, 4, -1, inputs.columns, out_channels).permute(2, 0, 3, 1, 4)
        _put(output, bias, pixels[image, top:])
    return y


def weight_gradient(x: Tensor, grad: Tensor, workspace: Workspace | None = None) -> Tensor:
    """
    Return the gradient (K, C, 3, 3) of the weight of :func:`convolve`.

    Args:
        x: (N, C, H, W), float32.
        grad: of the output, (N, K, H, W), float32.
    """
    in_channels, out_channels = x.shape[1], grad.shape[1]
    workspace = workspace or Workspace()
    total = workspace.take("total", 36, out_channels, in_channels).zero_()
    step = _STEP // max(in_channels, out_channels)
    inputs = _Tiles(x, 6, _INPUT, step, workspace)
    outputs = _Tiles(grad, 4, _OUTPUT.t(), step, workspace)
    for (_, _, tiles), (_, _, grads) in zip(inputs, outputs, strict=True):
        torch.baddbmm(total, grads.transpose(1, 2), tiles, out=total)
    flat = torch.mm(_KERNEL.t(), total.view(36, -1))
    return flat.view(3, 3, out_channels, in_channels).permute(2, 3, 0, 1)


class _Tiles:
    """The tiles of a batch, a few rows at a time.

    Args:
        x: (N, C, H, W).
        side: of a tile, 4 or 6; tiles start every 4 pixels, those of 6 one pixel outside.
        basis: (36, side * side), to which tiles are transformed.
        step: tiles at a time; a row, if it has more.
    """

    def __init__(self, x: Tensor, side: int, basis: Tensor, step: int, workspace: Workspace):
        self.x, self.side, self.basis = x.permute(0, 2, 3, 1), side, basis
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
                self._fill(band, self.x[image], 4 * row - self.margin // 2)
                rows = min(self.rows, self.num_rows - row)
                yield image, 4 * row, self._transform(band, rows)

    def _fill(self, band: Tensor, image: Tensor, top: int) -> None:
        """Copy the rows of pixels from ``top``, 0 outside of the image."""
        left = self.margin // 2
        start, stop = max(-top, 0), min(len(band), self.height - top)
        band[:start].zero_()
        band[start:stop, left : left + self.width] = image[top + start : top + stop]
        band[stop:].zero_()

    def _transform(self, band: Tensor, rows: int) -> Tensor:
        num, side, take = rows * self.columns, self.side, self.workspace.take
        tiles = take(f"tiles {side}", side * side, num * self.channels)
        y, x, c = band.stride()
        shape = (side, side, rows, self.columns, self.channels)
        tiles.view(shape).copy_(band.as_strided(shape, (y, x, 4 * y, 4 * x, c)))
        transformed = take(f"points {side}", 36, num, self.channels)
        torch.mm(self.basis, tiles, out=transformed.view(36, -1))
        return transformed


def _put(output: Tensor, bias: Tensor, y: Tensor) -> None:
    """Write tiles (rows, 4, columns, 4, K) and bias to ``y`` (H, W, K), what fits."""
    rows, _, columns, _, channels = output.shape
    height, width = min(4 * rows, len(y)), y.shape[1]
    if height == 4 * rows and width == 4 * columns:
        torch.add(output, bias, out=y[:height].view(output.shape))
    else:
        whole = torch.add(output, bias).reshape(4 * rows, 4 * columns, channels)
        y[:height] = whole[:height, :width]
