"""A plot of how well anchors fit objects by their sizes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from torch import nn

from focal_retina.anchor_analysis.fit import AnchorFit
from focal_retina.anchor_analysis.objects import Objects


def plot_fits(
    objects: Objects,
    fits: Mapping[str, tuple[AnchorFit, nn.Module]],
    thresholds: Sequence[float],
    path: Path,
) -> None:
    """Plot the mean best IoU over width and height with the anchors, and the share of each IoU.

    ``fits`` are by name, with their anchor generators.
    """
    figure = Figure(figsize=(5.5 * (len(fits) + 1), 4.8), layout="constrained")
    *maps, curves = figure.subplots(1, len(fits) + 1)
    sides = (objects.boxes[:, 2:] - objects.boxes[:, :2]).log2().numpy()
    shares = 1 - np.arange(len(objects)) / len(objects)
    for axes, (name, (fit, generator)) in zip(maps, fits.items(), strict=True):
        drawn = _draw_map(axes, sides, fit.ious.numpy(), generator)
        axes.set_title(f"{name}: mean best IoU; anchors are crosses")
        curves.plot(np.sort(fit.ious.numpy()), shares, label=name)
    figure.colorbar(drawn, ax=maps)
    for threshold in thresholds:
        curves.axvline(threshold, color="gray", linestyle=":")
    label = "share of objects with such an anchor"
    curves.set(xlabel="IoU", ylabel=label, xlim=(0, 1), ylim=(0, 1.01))
    curves.grid(alpha=0.3)
    curves.legend(frameon=False)
    figure.savefig(path, dpi=100)


def _draw_map(axes: Axes, sides: np.ndarray, ious: np.ndarray, generator: nn.Module) -> QuadMesh:
    edges = np.arange(np.floor(sides.min()), np.ceil(sides.max()) + 0.5, 0.25)
    counts, _, _ = np.histogram2d(*sides.T, bins=[edges, edges])
    sums, _, _ = np.histogram2d(*sides.T, bins=[edges, edges], weights=ious)
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
