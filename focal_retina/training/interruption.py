"""SIGINT and SIGTERM end a training between two iterations, with a checkpoint."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from detectron2.utils import comm

# How the process that launched the others passes a signal on: they may have got it themselves.
_FORWARDED = {signal.SIGINT: signal.SIGUSR1, signal.SIGTERM: signal.SIGUSR2}
_MEANING = {passed: number for number, passed in _FORWARDED.items()}


@dataclass
class Interruption:
    """What signals have asked of this process.

    Attributes:
        signal: that the run is to end by; None for none. Each process learns of its own.
        is_saved: the last checkpoint has all that was computed, so that a signal may end the
            process at once. So it is before the first iteration.
        is_ending: the run ends already, so that signals do nothing more.
    """

    signal: int | None = None
    is_saved: bool = True
    is_ending: bool = False
    _count: int = 0

    def reset(self) -> None:
        """Forget all signals, as before a run."""
        vars(self).update(vars(Interruption()))

    def receive(self, number: int, _: FrameType | None = None) -> None:
        """Note a signal; end the process if it is the second, or nothing is to be saved."""
        if self.is_ending:
            return
        self._count += number in _FORWARDED
        self.signal = _MEANING.get(number, number)
        if self.is_saved or self._count > 1:
            where = "nothing is lost" if self.is_saved else "at once"
            end_process(f"ended by {{}}, {where}: --resume goes on", self.signal)
        _say("{} ends the run after this iteration, with a checkpoint", self.signal)


interruption = Interruption()


def end_process(sentence: str, number: int) -> None:
    """Say that a signal ends the run, and end this process without any clean-up."""
    _say(sentence, number)
    os._exit(128 + number)


def _say(sentence: str, number: int) -> None:
    if comm.is_main_process():
        line = f"{os.path.basename(sys.argv[0])}: {sentence.format(signal.Signals(number).name)}\n"
        with contextlib.suppress(OSError):
            os.write(2, line.encode())  # a signal may have come while Python was writing


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Inside this context, signals go to ``interruption``."""
    interruption.reset()
    with _handled({number: interruption.receive for number in (*_FORWARDED, *_MEANING)}):
        try:
            yield
        finally:
            interruption.reset()


@contextlib.contextmanager
def forwarding() -> Iterator[list[int]]:
    """Inside this context, pass signals on to the processes that this one has launched.

    It gives the list of the signals that have come.
    """
    received: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        received.append(number)
        passed = _FORWARDED[number] if len(received) == 1 else signal.SIGKILL
        for process in multiprocessing.active_children():
            if process.pid is not None:
                os.kill(process.pid, passed)
        if len(received) > 1:
            end_process("ended by {}, at once: --resume goes on", number)

    with _handled({number: forward for number in _FORWARDED}):
        yield received


@contextlib.contextmanager
def _handled(handlers: dict[int, Callable]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():  # others cannot have handlers
            for number, handler in handlers.items():
                stack.callback(signal.signal, number, signal.signal(number, handler))
        yield
