"""The peak memory of one run."""

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch

from experiments.benchmark.measuring import Case, synchronize
from focal_retina.ops import reused_memory

_CLEAR_REFS = "/proc/self/clear_refs"
# Parameters of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def peak_memories(case: Case, device: torch.device) -> dict[str, float | None]:
    """Return each contestant's :func:`peak_memory` in its second run; not of scaled limits."""
    contestants = {name: c for name, c in case.contestants.items() if c.calls == 1}
    for contestant in contestants.values():
        contestant.run()
    return {name: peak_memory(c.run, device) for name, c in contestants.items()}


def peak_memory(run: Callable[[], Any], device: torch.device) -> float | None:
    """Return by how many MiB memory in use grows during a run, its result included.

    On CUDA it is PyTorch's allocated memory. On a CPU it is the process's resident memory, exact
    within :func:`freed_memory_given_back`; None where the system does not tell its peak, which only
    Linux does.
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
    reused_memory.release()
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

    Else it keeps those of up to 32 MiB, and in pieces that the next may not fit: the peak of a
    training step has been seen between 1.2 and 2.2 times what it needs. Giving them back costs
    time, so this is not for runs that are timed, and it must come before them: blocks that were
    kept once are used again.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, 1 << 16)
    try:
        yield
    finally:
        # Where glibc's own, moving thresholds soon are in a process that frees large blocks.
        mallopt(_M_MMAP_THRESHOLD, 1 << 25)
        mallopt(_M_TRIM_THRESHOLD, 1 << 26)


def _glibc(function: str) -> Callable[..., int] | None:
    """Return a function that only glibc has; None with other C libraries."""
    return getattr(ctypes.CDLL(None), function, None)


def _resident_mib(key: str) -> float:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(key))
    return int(line.split()[1]) / 1024
