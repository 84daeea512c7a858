"""The pictures of the report: the rows of a table, and the paper's Figure 2."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.paper.measured import MeasuredRow
from experiments.reports import axes_of_png


def draw_table(rows: Sequence[MeasuredRow], path: Path) -> None:
    """Draw published and measured AP side by side, the spread over seeds as a line."""
    places = np.arange(len(rows))
    published = [r.row.published["AP"] for r in rows]
    measured = [np.nan if r.mean("AP") is None else r.mean("AP") for r in rows]
    spreads = [r.spread("AP") or 0 for r in rows]
    with axes_of_png(path, width=1.5 + 0.8 * len(rows), height=4) as axes:
        axes.bar(places - 0.2, published, 0.4, label="published", color="lightgray")
        axes.bar(places + 0.2, measured, 0.4, yerr=spreads, label="measured", color="C0")
        axes.set_xticks(places, [r.row.name for r in rows], rotation=30, ha="right")
        axes.set(ylabel="AP", title=f"Table {rows[0].row.table}")


def draw_speed(rows: Sequence[MeasuredRow], path: Path) -> None:
    """Draw the paper's Figure 2: milliseconds per image against AP, one line per backbone."""
    with axes_of_png(path) as axes:
        for number, backbone in enumerate(dict.fromkeys(r.row.backbone for r in rows)):
            of_backbone = [r for r in rows if r.row.backbone == backbone]
            published = [(r.row.published["ms"], r.row.published["AP"]) for r in of_backbone]
            measured = [(r.mean("ms"), r.mean("AP")) for r in of_backbone]
            measured = [point for point in measured if None not in point]
            label = f"{backbone} published, M40"
            axes.plot(*np.array(published).T, "o--", color=f"C{number}", alpha=0.4, label=label)
            if measured:
                axes.plot(*np.array(measured).T, "s-", color=f"C{number}", label=backbone)
        axes.set(xscale="log", xlabel="ms per image", ylabel="AP", title="Figure 2")
