"""The measured rows: results of all seeds, means and rank correlation."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import spearmanr

from experiments.paper.results import read_result
from experiments.paper.rows import Row, load_rows

MIN_RANKED = 3


@dataclass(frozen=True)
class MeasuredRow:
    """A row and the contents of result.json of its seeds."""

    row: Row
    results: list[dict]

    def values(self, metric: str) -> list[float]:
        """Return a metric, such as "AP", "AP50" or "ms", of each seed that has it."""
        measured = [{"ms": r.get("ms"), **(r.get("metrics") or {})} for r in self.results]
        values = [m.get(metric) for m in measured]
        return [value for value in values if value is not None]

    def mean(self, metric: str) -> float | None:
        """Return the mean over seeds; None without any."""
        values = self.values(metric)
        return statistics.fmean(values) if values else None

    def spread(self, metric: str) -> float | None:
        """Return the standard deviation over seeds; None for fewer than two."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else None

    @property
    def notes(self) -> list[str]:
        """What a reader should know besides the numbers."""
        if not self.results:
            return ["not run"]
        notes = [f"seed {r['seed']} failed: {r['reason']}" for r in self.results if "reason" in r]
        submissions = [r["submission"] for r in self.results if "submission" in r]
        return notes + [f"submit {Path(s).name} to the COCO server" for s in submissions]


def load_measured(output: Path) -> list[MeasuredRow]:
    """Return all rows of the paper, with the results of the jobs in a folder."""
    measured = []
    for row in load_rows():
        paths = (output / row.id).glob("seed*/result.json")
        results = [result for path in paths if (result := read_result(path.parent))]
        measured.append(MeasuredRow(row, sorted(results, key=lambda r: r["seed"])))
    return measured


def rank_correlation(rows: Iterable[MeasuredRow]) -> tuple[float, int] | None:
    """Return Spearman's correlation of measured with published AP, and the number of rows.

    None for fewer than three rows, and where all measured or all published values are equal.
    """
    pairs = [(r.mean("AP"), r.row.published["AP"]) for r in rows if r.values("AP")]
    measured, published = ([pair[i] for pair in pairs] for i in range(2))
    if len(pairs) < MIN_RANKED or len(set(measured)) == 1 or len(set(published)) == 1:
        return None
    return float(spearmanr(measured, published).statistic), len(pairs)
