"""Workers of a data loader, which must not outlive the process that they work for."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable
from functools import partial

from torch.utils.data import DataLoader

_PR_SET_PDEATHSIG = 1


def with_bound_workers(loader: Iterable) -> Iterable:
    """Bind the workers of a loader, if it is PyTorch's, to this process; return the loader.

    Without it, a worker that is still importing when its process is killed takes the next one up
    for its parent, and stays for ever. Signals that end a run between two iterations come to the
    workers too, which are still needed then.
    """
    if isinstance(loader, DataLoader):
        loader.worker_init_fn = partial(_start, os.getpid(), loader.worker_init_fn)
    return loader


def _start(parent: int, then: Callable[[int], None] | None, worker_id: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The second one counts: PyTorch itself ends workers that hang by it.
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before
        os._exit(1)
    if then is not None:
        then(worker_id)
