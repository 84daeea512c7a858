"""Pictures of measured tables: a table's rows, and the paper's Figure 2."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.paper.measured import MeasuredRow


def draw_table(rows: Sequence[MeasuredRow], path: Path) -> None:
    """Draw published and measured AP side by side, the spread over seeds as a line."""
    figure = Figure(figsize=(1.5 + 0.8 * len(rows), 4), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(rows))
    published = [r.row.published["AP"] for r in rows]
    measured = [np.nan if r.mean("AP") is None else r.mean("AP") for r in rows]
    spreads = [r.spread("AP") or 0 for r in rows]
    axes.bar(places - 0.2, published, 0.4, label="published", color="lightgray")
    axes.bar(places + 0.2, measured, 0.4, yerr=spreads, label="measured", color="C0")
    axes.set_xticks(places, [r.row.name for r in rows], rotation=30, ha="right")
    axes.set(ylabel="AP", title=f"Table {rows[0].row.table}")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def draw_speed(rows: Sequence[MeasuredRow], path: Path) -> None:
    """Draw the paper's Figure 2: milliseconds per image against AP, one line per backbone."""
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for color, backbone in enumerate(dict.fromkeys(r.row.backbone for r in rows)):
        line = [r for r in rows if r.row.backbone == backbone]
        points = [(r.row.published["ms"], r.row.published["AP"]) for r in line]
        axes.plot(*zip(*points, strict=True), "o--", color=f"C{color}", alpha=0.4,
                  label=f"{backbone} published, M40")  # fmt: skip
        points = [(r.mean("ms"), r.mean("AP")) for r in line if r.values("ms") and r.values("AP")]
        if points:
            axes.plot(*zip(*points, strict=True), "s-", color=f"C{color}", label=backbone)
    axes.set(xscale="log", xlabel="ms per image", ylabel="AP", title="Figure 2")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
