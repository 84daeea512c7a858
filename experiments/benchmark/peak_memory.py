"""The peak memory of one run."""

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch

from experiments.benchmark.case import Case
from experiments.machine import synchronize
from focal_retina.ops import memory

_CLEAR_REFS = "/proc/self/clear_refs"
# Parameters of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def peak_memories(case: Case, device: torch.device) -> dict[str, float | None]:
    """Return the :func:`peak_memory` of each implementation in its second run, by name.

    Limits whose runs are only a part of the work are left out.
    """
    runs = {name: x.run for name, x in case.implementations.items() if x.calls == 1}
    for run in runs.values():
        run()
    return {name: peak_memory(run, device) for name, run in runs.items()}


def peak_memory(run: Callable[[], Any], device: torch.device) -> float | None:
    """Return how much memory in use grows during a run, its result included, in MiB.

    On CUDA this is the memory that PyTorch allocates. On a CPU it is the resident memory of the
    process, exact within :func:`freed_memory_given_back`, and None where the system does not tell
    its peak; only Linux does.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    if not os.access(_CLEAR_REFS, os.W_OK):
        return None
    # Memory freed or kept before would hide what the run takes.
    memory.release()
    if malloc_trim := _glibc("malloc_trim"):
        malloc_trim(0)
    with open(_CLEAR_REFS, "w") as file:
        file.write("5")  # makes the peak what is resident now
    before = _resident_mib("VmRSS")
    run()
    return _resident_mib("VmHWM") - before


@contextlib.contextmanager
def freed_memory_given_back() -> Iterator[None]:
    """Make glibc give freed blocks back at once, so that resident memory is memory in use.

    By default it keeps freed blocks of up to 32 MiB, and the next blocks may not fit into them: the
    peak of a training step was between 1.2 and 2.2 times what the step needs. Giving blocks back
    takes time, so do not time runs within. Measure memory before all times, because blocks that
    were kept once are used again.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, 1 << 16)
    try:
        yield
    finally:
        # The values that glibc itself soon reaches in a process that frees large blocks.
        mallopt(_M_MMAP_THRESHOLD, 1 << 25)
        mallopt(_M_TRIM_THRESHOLD, 1 << 26)


def _glibc(function: str) -> Callable[..., int] | None:
    """Return a function that only glibc has; None with other C libraries."""
    return getattr(ctypes.CDLL(None), function, None)


def _resident_mib(key: str) -> float:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(key))
    return int(line.split()[1]) / 1024
