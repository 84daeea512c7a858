"""Work in a forked process of bounded time and memory."""

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

GIGABYTE = 2**30
SECONDS = 20


def failure(work: Callable[[], None], log: Path, memory: int = GIGABYTE) -> str | None:
    """Return how ``work`` failed in a process of its own; None if it did not.

    It fails by any exception, a signal, more than ``memory`` resident bytes besides those that this
    process has, or more than 20 seconds.
    """
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _work_and_exit(work, log)
    _, status, used = os.wait4(child, 0)
    more = used.ru_maxrss * 1024 - _pages(1)
    if status == 0:
        return f"it takes {more} bytes" if more > memory else None
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return log.read_text(errors="replace")[-3000:]


def _pages(column: int) -> int:
    """Return the size of this process in bytes: 0 of its addresses, 1 of what is resident."""
    pages = int(Path("/proc/self/statm").read_text().split()[column])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _work_and_exit(work: Callable[[], None], log: Path) -> None:
    status = 1
    try:
        with open(log, "w") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        torch.set_num_threads(1)  # the threads of this process's parent are not here
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        limit = _pages(0) + 8 * GIGABYTE  # of addresses, of which most are never used
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        work()
        status = 0
    except BaseException:
        traceback.print_exc(file=open(log, "a"))
    finally:
        os._exit(status)
