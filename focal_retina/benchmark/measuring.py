"""Cases, and their measurement: interleaved, in one process, medians and peak memory."""

import contextlib
import ctypes
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

_CLEAR_REFS = "/proc/self/clear_refs"


def same(returned: Any) -> Any:
    return returned


@dataclass(frozen=True)
class Contestant:
    """One way to do the work of a case.

    Args:
        run: does the work once; what it returns counts as memory in use.
        result: turns what ``run`` returns into the result that all contestants agree on.
        note: why its result is not the baseline's; empty if it is.
        calls: so many runs are the work of the case; 1 but for limits.
    """

    run: Callable[[], Any]
    result: Callable[[Any], Any] = same
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
    case: Case, device: torch.device, *, rounds: int, min_seconds: float = 1.0
) -> CaseResult:
    """Measure a case: one run of each contestant to warm up, one for its memory, then rounds.

    In a round every contestant runs once, so that drifts of the machine meet all of them. Rounds
    go on, up to ten times ``rounds``, until they have taken ``min_seconds``.
    """
    contestants = case.contestants
    times = {name: [] for name in contestants}
    with _without_garbage_collection():
        for contestant in contestants.values():
            contestant.run()
        peaks = {n: peak_memory(c.run, device) for n, c in contestants.items() if c.calls == 1}
        start = time.perf_counter()
        for done in range(10 * rounds):
            if done >= rounds and time.perf_counter() - start >= min_seconds:
                break
            for name, contestant in contestants.items():
                times[name].append(run_time(contestant.run, device) * contestant.calls)
    measurements = {
        name: Measurement(times[name], peaks.get(name), c.note) for name, c in contestants.items()
    }
    return CaseResult(case.group, case.name, case.baseline, measurements, case.amount, case.unit)


def run_time(run: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds of one run, without those that free its result."""
    synchronize(device)
    start = time.perf_counter()
    result = run()
    synchronize(device)
    seconds = time.perf_counter() - start
    del result
    return seconds


def peak_memory(run: Callable[[], Any], device: torch.device) -> float | None:
    """Return by how many MiB memory in use grows during a run, its result included.

    On CUDA PyTorch's allocated memory; on a CPU the process's resident memory, which Linux alone
    reports: None elsewhere.
    """
    if device.type == "cuda":
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    if not os.access(_CLEAR_REFS, os.W_OK):
        return None
    _return_freed_memory()
    with open(_CLEAR_REFS, "w") as file:
        file.write("5")  # resets the peak to what is resident now
    before = _resident_mib("VmRSS")
    run()
    return _resident_mib("VmHWM") - before


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Keep Python's collector, which sets in after so many allocations, out of what is measured."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _return_freed_memory() -> None:
    """Give memory that glibc keeps for later back to the system: it would hide new allocations."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _resident_mib(key: str) -> float:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(key))
    return int(line.split()[1]) / 1024
