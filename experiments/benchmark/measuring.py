"""Cases, and their times: in one process, in turns, medians."""

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch


def as_returned(returned: Any) -> Any:
    """Return it unchanged."""
    return returned


@dataclass(frozen=True)
class Contestant:
    """One way to do the work of a case.

    Args:
        run: does the work once; what it returns counts as its memory.
        result: turns what ``run`` returns into the result that all contestants agree on.
        note: why its result is not the baseline's; empty if it is.
        calls: so many runs are the work of the case; 1 but for limits.
    """

    run: Callable[[], Any]
    result: Callable[[Any], Any] = as_returned
    note: str = ""
    calls: float = 1.0


@dataclass(frozen=True)
class Case:
    """A piece of work and its contestants by name.

    Args:
        group: what ``--only`` calls it.
        name: unique within the group.
        baseline: the contestant that the others are compared with.
        amount, unit: how much of what the work is, such as 16 "images"; 0 to report no rate.
    """

    group: str
    name: str
    baseline: str
    contestants: dict[str, Contestant]
    amount: float = 0
    unit: str = ""


@dataclass
class Measurement:
    """What one contestant took for the work of a case."""

    times: list[float]  # seconds, one of each round
    peak_mib: float | None  # above what was in use before; None where that cannot be measured
    note: str = ""

    @property
    def seconds(self) -> float:
        return statistics.median(self.times)


@dataclass
class CaseResult:
    """The measurements of a case, by contestant."""

    group: str
    name: str
    baseline: str
    measurements: dict[str, Measurement]
    amount: float
    unit: str

    def speedup(self, name: str, against: str) -> float | None:
        """Return how many times faster one contestant is than another; None if one is missing."""
        pair = self.measurements.get(name), self.measurements.get(against)
        return None if None in pair else pair[1].seconds / pair[0].seconds

    def memory_ratio(self, name: str, against: str) -> float | None:
        """Return the fraction of another's peak memory; None if it was not measured or is 0."""
        pair = self.measurements.get(name), self.measurements.get(against)
        if None in pair or pair[0].peak_mib is None or not pair[1].peak_mib:
            return None
        return pair[0].peak_mib / pair[1].peak_mib


def measure(
    case: Case,
    device: torch.device,
    peaks: dict[str, float | None],
    *,
    rounds: int,
    min_seconds: float = 1.0,
) -> CaseResult:
    """Time a case: one run of each contestant to warm up, then rounds.

    In a round every contestant runs once, so that drifts of the machine meet all of them. Rounds
    go on, up to ten times ``rounds``, until they have taken ``min_seconds``.

    Args:
        peaks: peak memory of the contestants in MiB, measured before.
    """
    times = {name: [] for name in case.contestants}
    with _frozen_garbage():
        for contestant in case.contestants.values():
            contestant.run()
        start = time.perf_counter()
        for done in range(10 * rounds):
            if done >= rounds and time.perf_counter() - start >= min_seconds:
                break
            for name, contestant in case.contestants.items():
                times[name].append(_run_time(contestant.run, device) * contestant.calls)
    measurements = {
        name: Measurement(times[name], peaks.get(name), c.note)
        for name, c in case.contestants.items()
    }
    return CaseResult(case.group, case.name, case.baseline, measurements, case.amount, case.unit)


def synchronize(device: torch.device) -> None:
    """Wait for what a CUDA device has to do; other devices have done it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _run_time(run: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds of one run, without those that free its result."""
    synchronize(device)
    start = time.perf_counter()
    result = run()
    synchronize(device)
    seconds = time.perf_counter() - start
    del result
    return seconds


@contextlib.contextmanager
def _frozen_garbage() -> Iterator[None]:
    """Leave Python's collector to what the runs allocate, without what was there before."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
