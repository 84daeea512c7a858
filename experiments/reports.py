"""What the reports of all experiments share: Markdown tables and pictures."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tabulate import tabulate


def markdown_table(rows: Iterable[Sequence], headers: Sequence[str]) -> str:
    """Return a table in Markdown, its cells as they are."""
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


@contextmanager
def axes_of_png(path: Path, width: float = 6, height: float = 4.5) -> Iterator[Axes]:
    """Yield axes to draw on, then write them with grid and legend as a PNG; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    yield axes
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
