"""The scaling results as a picture."""

import math
import re
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.benchmark.results import CaseResult, Measurement

# By the first word of an implementation's name; its variants differ by line style.
COLORS = {"Detectron2": "C0", "torchvision": "C1", "focal_retina": "C2", "limit": "gray"}
LINE_STYLES = ("-", "--", ":")


def plot_scaling(all_series: list[list[CaseResult]], path: Path) -> None:
    """Write a PNG: a column for each series, time above, memory below, all axes logarithmic."""
    figure = Figure(figsize=(5 * len(all_series), 8), layout="constrained")
    columns = figure.subplots(2, len(all_series), squeeze=False).T
    for (upper, lower), series in zip(columns, all_series, strict=True):
        upper.set_title(series[0].name)
        _plot(upper, series, "time (ms)", lambda m: m.seconds * 1e3)
        _plot(lower, series, "peak extra memory (MiB)", lambda m: m.peak_mib or math.nan)
        upper.legend()
    figure.savefig(path, dpi=120)


def _plot(
    axes: Axes, series: list[CaseResult], ylabel: str, value: Callable[[Measurement], float]
) -> None:
    """Draw a line for each implementation; it ends where the implementation was left out."""
    sizes = [case.value for case in series]
    styles = {word: iter(LINE_STYLES) for word in COLORS}
    for name in series[0].measurements:
        word = re.match(r"\w+", name)[0]
        measured = [case.measurements.get(name) for case in series]
        values = [math.nan if m is None else value(m) for m in measured]
        style = {"color": COLORS[word], "linestyle": next(styles[word]), "marker": "o"}
        axes.plot(sizes, values, label=name, **style)
    # An axis without values (of memory that cannot be measured) cannot be logarithmic.
    has_values = any(y > 0 for line in axes.get_lines() for y in line.get_ydata())
    axes.set(xscale="log", yscale="log" if has_values else "linear")
    axes.set(xlabel=series[0].axis, ylabel=ylabel)
    axes.set_xticks(sizes, labels=[str(size) for size in sizes])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
