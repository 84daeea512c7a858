"""The scaling results as a picture."""

import math
import re
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.benchmark.measuring import Measurement
from experiments.benchmark.scaling import SweepResult

# By the first word of a contestant's name; its variants differ by line style.
COLORS = {"Detectron2": "C0", "torchvision": "C1", "focal_retina": "C2", "limit": "gray"}
LINE_STYLES = ("-", "--", ":")


def plot_sweeps(sweeps: list[SweepResult], path: Path) -> None:
    """Write a PNG: a column for each sweep, time above, memory below, all axes logarithmic."""
    figure = Figure(figsize=(5 * len(sweeps), 8), layout="constrained")
    columns = figure.subplots(2, len(sweeps), squeeze=False).T
    for (upper, lower), sweep in zip(columns, sweeps, strict=True):
        upper.set_title(sweep.name)
        _plot(upper, sweep, "time (ms)", lambda m: m.seconds * 1e3)
        _plot(lower, sweep, "peak extra memory (MiB)", lambda m: m.peak_mib or math.nan)
        upper.legend()
    figure.savefig(path, dpi=120)


def _plot(
    axes: Axes, sweep: SweepResult, ylabel: str, value: Callable[[Measurement], float]
) -> None:
    """Draw a line for each contestant; it ends where the contestant was left out."""
    styles = {who: iter(LINE_STYLES) for who in COLORS}
    for name in sweep.results[0].measurements:
        who = re.match(r"\w+", name)[0]
        results = [case.measurements.get(name) for case in sweep.results]
        values = [math.nan if m is None else value(m) for m in results]
        style = {"color": COLORS[who], "linestyle": next(styles[who]), "marker": "o"}
        axes.plot(sweep.values, values, label=name, **style)
    # An axis without values, as of memory that could not be measured, cannot be logarithmic.
    has_values = any(y > 0 for line in axes.get_lines() for y in line.get_ydata())
    axes.set(xscale="log", yscale="log" if has_values else "linear")
    axes.set(xlabel=sweep.axis, ylabel=ylabel)
    axes.set_xticks(sweep.values, labels=[str(x) for x in sweep.values])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
