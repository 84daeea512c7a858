"""How well anchors fit, as tables in Markdown and a plot; objects without foreground anchor."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from scipy.stats import binned_statistic_2d
from tabulate import tabulate
from torch import Tensor, nn

from focal_retina.anchor_analysis.fit import AnchorFit
from focal_retina.anchor_analysis.objects import Objects

# Height over width.
_RATIO_EDGES = {0.0: "0", 1 / 4: "1/4", 1 / 2: "1/2", 1.0: "1", 2.0: "2", 4.0: "4", torch.inf: "∞"}


def fit_table(objects: Objects, fits: Sequence[AnchorFit], thresholds: Sequence[float]) -> str:
    """Return a table of all objects, and of those of each size and aspect ratio.

    Args:
        fits: of the config's anchors and, if there are any, of others: "before → after".
        thresholds: of the intervals of IoU to count, ascending.
    """
    rows = [
        [name, *_counts(group, fits[0].is_labelled & group), *_cells(fits, group, thresholds)]
        for name, group in _groups(objects)
        if group.any()
    ]
    bounds = zip(thresholds[-2::-1], thresholds[:0:-1], strict=True)
    intervals = [f"IoU ≥ {thresholds[-1]:g}", *(f"{low:g} to {high:g}" for low, high in bounds)]
    headers = ["objects", "number", "in labelled images", "mean best IoU", *intervals]
    headers += [f"below {thresholds[0]:g}", "labelled, without foreground anchor"]
    headers.append("the same without low-quality matches")
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _groups(objects: Objects) -> Iterator[tuple[str, Tensor]]:
    yield "all", torch.ones(len(objects), dtype=torch.bool)
    # COCO's, but by the box: its own are by the segmentation.
    yield "small (file, area < 32²)", objects.areas < 32**2
    yield "medium", (objects.areas >= 32**2) & (objects.areas < 96**2)
    yield "large (from 96²)", objects.areas >= 96**2
    width, height = (objects.boxes[:, 2:] - objects.boxes[:, :2]).double().unbind(1)
    octaves = (width * height).sqrt().log2().floor()
    for octave in octaves.unique().tolist():
        yield f"{2**octave:g} to {2 ** (octave + 1):g} pixels (input, √area)", octaves == octave
    edges, ratios = list(_RATIO_EDGES), height / width
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        name = f"height/width {_RATIO_EDGES[low]} to {_RATIO_EDGES[high]}"
        yield name, (ratios >= low) & (ratios < high)


def _cells(fits: Sequence[AnchorFit], group: Tensor, thresholds: Sequence[float]) -> Iterator[str]:
    edges = torch.tensor(thresholds, dtype=torch.float64)
    columns = []
    for fit in fits:
        ious = fit.ious[group]
        intervals = torch.bucketize(ious, edges, right=True)
        shares = intervals.bincount(minlength=len(thresholds) + 1) / len(ious)
        percentages = [f"{100 * x:.1f}%" for x in shares.flip(0).tolist()]
        counts = _counts(fit.unmatched & group, fit.unmatched_without_low_quality & group)
        columns.append([f"{float(ious.mean()):.3f}", *percentages, *counts])
    return (" → ".join(cells) for cells in zip(*columns, strict=True))


def _counts(*masks: Tensor) -> list[str]:
    return [str(int(mask.sum())) for mask in masks]


def examples(objects: Objects, fit: AnchorFit, count: int = 10) -> list[str]:
    """Return a line for each object without a foreground anchor, those of lowest IoU first."""
    unmatched = fit.unmatched.nonzero().squeeze(1)
    worst = unmatched[fit.ious[unmatched].argsort(stable=True)][:count]
    sides = (objects.boxes[:, 2:] - objects.boxes[:, :2]).tolist()
    return [
        f"{objects.file_names[int(objects.image_idxs[i])]}: annotation "
        f"{objects.annotation_ids[i]}, {sides[i][0]:.1f} x {sides[i][1]:.1f} pixels at the "
        f"network's input, best IoU {float(fit.ious[i]):.3f}"
        for i in worst.tolist()
    ]


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
    means = binned_statistic_2d(*sides.T, ious, bins=[edges, edges]).statistic
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
