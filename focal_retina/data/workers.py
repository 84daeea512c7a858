"""Workers of a data loader, which must not outlive the process that they work for."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable

from torch.utils.data import DataLoader

_PR_SET_PDEATHSIG = 1


class WorkerStart:
    """What a worker does first, as ``worker_init_fn`` of a loader: bind itself to this process.

    Without it, a worker that is still importing when its process is killed takes the next one up
    for its parent, and stays for ever. Signals that end a run between two iterations come to the
    workers too, which are still needed then.

    Args:
        then: another ``worker_init_fn`` to call.
    """

    def __init__(self, then: Callable[[int], None] | None = None):
        self._parent, self._then = os.getpid(), then

    def __call__(self, worker_id: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # The second one counts: PyTorch itself ends workers that hang by it.
        signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._parent:  # it died before
            os._exit(1)
        if self._then is not None:
            self._then(worker_id)


def with_bound_workers(loader: Iterable) -> Iterable:
    """Return a loader, of whose workers ``WorkerStart`` takes care if it is PyTorch's."""
    if isinstance(loader, DataLoader):
        loader.worker_init_fn = WorkerStart(loader.worker_init_fn)
    return loader
