"""A picture of anchors over the sizes of objects."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from torch import nn

from focal_retina.anchor_analysis.measuring import Coverage
from focal_retina.anchor_analysis.objects import Objects


def draw_coverage(
    objects: Objects,
    coverages: Mapping[str, tuple[Coverage, nn.Module]],
    thresholds: Sequence[float],
    path: Path,
) -> None:
    """Draw mean best IoU by width and height with the anchors in it, and the shares reached.

    Args:
        coverages: of ``objects``, with their anchor generators, by name.
    """
    figure = Figure(figsize=(5.5 * (len(coverages) + 1), 4.8), layout="constrained")
    *maps, curves = figure.subplots(1, len(coverages) + 1)
    sides = (objects.boxes[:, 2:] - objects.boxes[:, :2]).log2().numpy()
    for axes, (name, (coverage, generator)) in zip(maps, coverages.items(), strict=True):
        drawn = _draw_map(axes, sides, coverage, generator)
        axes.set_title(f"{name}: mean best IoU; anchors are crosses")
    figure.colorbar(drawn, ax=maps)
    for name, (coverage, _) in coverages.items():
        shares = 1 - np.arange(len(objects)) / len(objects)
        curves.plot(np.sort(coverage.ious.numpy()), shares, label=name)
    for threshold in thresholds:
        curves.axvline(threshold, color="gray", linestyle=":")
    curves.set(xlabel="IoU", ylabel="share of objects with such an anchor", xlim=(0, 1))
    curves.set_ylim(0, 1.01)
    curves.grid(alpha=0.3)
    curves.legend(frameon=False)
    figure.savefig(path, dpi=100)


def _draw_map(axes: Axes, sides: np.ndarray, coverage: Coverage, generator: nn.Module):
    edges = np.arange(np.floor(sides.min()), np.ceil(sides.max()) + 0.5, 0.25)
    counts, _, _ = np.histogram2d(*sides.T, bins=[edges, edges])
    sums, _, _ = np.histogram2d(*sides.T, bins=[edges, edges], weights=coverage.ious.numpy())
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    drawn = axes.pcolormesh(2**edges, 2**edges, means.T, vmin=0, vmax=1, cmap="RdYlGn")
    for cell_anchors in generator.cell_anchors:
        anchor_sides = (cell_anchors[:, 2:] - cell_anchors[:, :2]).numpy()
        axes.plot(*anchor_sides.T, "x", color="black", markersize=4)
    axes.set(xscale="log", yscale="log", xlabel="width at the network's input, pixels")
    axes.set_ylabel("height, pixels")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(2))
        axis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    return drawn
