"""The times of a case: in one process, in turns."""

import contextlib
import gc
import time
from collections.abc import Iterator

import torch

from experiments.benchmark.case import Case
from experiments.benchmark.results import CaseResult, Measurement
from experiments.machine import seconds_of


def time_case(
    case: Case,
    device: torch.device,
    peaks: dict[str, float | None],
    *,
    rounds: int,
    min_seconds: float = 1.0,
) -> CaseResult:
    """Time a case: run each implementation once to warm up, then in rounds.

    In a round every implementation runs once, so that all of them suffer alike when the machine
    slows down. Rounds go on until they have taken ``min_seconds``, up to ten times ``rounds``.

    Args:
        peaks: peak memory of the implementations in MiB, measured before.
    """
    times = {name: [] for name in case.implementations}
    with _old_objects_frozen():
        for implementation in case.implementations.values():
            implementation.run()
        start = time.perf_counter()
        for done in range(10 * rounds):
            if done >= rounds and time.perf_counter() - start >= min_seconds:
                break
            for name, implementation in case.implementations.items():
                seconds = seconds_of(implementation.run, device)
                times[name].append(seconds * implementation.calls)
    measurements = {
        name: Measurement(times[name], peaks.get(name), implementation.note)
        for name, implementation in case.implementations.items()
    }
    return CaseResult(case.group, case.name, case.baseline, measurements, case.axis, case.value)


@contextlib.contextmanager
def _old_objects_frozen() -> Iterator[None]:
    """Let Python's garbage collector look only at objects that are made within."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
