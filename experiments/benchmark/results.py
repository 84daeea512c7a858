"""The results of a benchmark, as benchmark.json has them."""

import statistics
from dataclasses import dataclass, field

from experiments.benchmark.setting import Setting


@dataclass
class Measurement:
    """What one implementation needed for the work of a case."""

    times: list[float]  # seconds, one of each round
    peak_mib: float | None  # above what was in use before; None where it cannot be measured
    note: str = ""

    @property
    def seconds(self) -> float:
        return statistics.median(self.times)


@dataclass
class CaseResult:
    """The measurements of a case, by implementation; other fields as in ``Case``."""

    group: str
    name: str
    baseline: str
    measurements: dict[str, Measurement]
    axis: str = ""
    value: int = 0

    def speedup(self, name: str) -> float | None:
        """Return how many times faster it is than the baseline; None without a baseline."""
        baseline = self.measurements.get(self.baseline)
        return baseline and baseline.seconds / self.measurements[name].seconds

    def memory_ratio(self, name: str) -> float | None:
        """Return its fraction of the baseline's peak memory; None where one was not measured."""
        baseline, peak = self.measurements.get(self.baseline), self.measurements[name].peak_mib
        if peak is None or baseline is None or not baseline.peak_mib:
            return None
        return peak / baseline.peak_mib


@dataclass
class Report:
    """All results, and the machine and the sizes they belong to."""

    machine: dict[str, str]
    setting: Setting
    rounds: int
    cases: list[CaseResult] = field(default_factory=list)

    def series(self) -> list[list[CaseResult]]:
        """Return the cases of each series."""
        in_series = [case for case in self.cases if case.axis]
        names = dict.fromkeys(case.name for case in in_series)
        return [[case for case in in_series if case.name == name] for name in names]
