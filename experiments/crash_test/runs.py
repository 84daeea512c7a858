"""Trainings in processes of their own, forked from this one, which has imported everything.

This process must not compute anything with PyTorch before: its threads do not survive a fork.
"""

import contextlib
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

# What a training would import at its first write.
import torch.utils.tensorboard  # noqa: F401

from focal_retina.checkpoint.atomic import unfinished_files
from focal_retina.engine import argument_parser, main


class Run:
    """``train_net.py --resume`` with a config, in one process or several, as one process group.

    Args:
        folder: OUTPUT_DIR; what the processes print goes to ``console.txt`` in it.
    """

    def __init__(self, config_file: Path, folder: Path, processes: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.console = folder / "console.txt"
        self.console.write_text("")
        # A killed run may have left half a file, which this one will remove.
        self._left = self._unfinished()
        arguments = ["--resume", "--config-file", config_file, "OUTPUT_DIR", folder]
        port = _free_port()
        self.pids = []
        for rank in range(processes):
            variables = _torchrun_variables(rank, processes, port) if processes > 1 else {}
            self.pids.append(self._fork(lambda: _train(arguments, variables)))  # noqa: B023

    def _fork(self, work: Callable[[], None]) -> int:
        group = self.pids[0] if self.pids else 0
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, group)
            _leave_after(work, self.console)
        with contextlib.suppress(PermissionError):  # the child was faster
            os.setpgid(pid, group or pid)
        return pid

    def ended(self) -> bool:
        """Return whether the main process is no more."""
        return os.waitid(os.P_PID, self.pids[0], os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill(self) -> None:
        """Kill all processes, the data workers included, as ``kill -9`` does."""
        os.killpg(self.pids[0], signal.SIGKILL)

    def pause(self) -> None:
        """Stop all processes until ``go_on``, or until they are killed."""
        os.killpg(self.pids[0], signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self.pids[0], signal.SIGCONT)

    def wait(self) -> bool:
        """Wait for the end of all processes; return whether each was a success."""
        return [os.waitpid(pid, 0)[1] for pid in self.pids] == [0] * len(self.pids)

    def is_writing(self) -> bool:
        """Return whether a checkpoint or its tag of this run is half on the disk."""
        return bool(self._unfinished() - self._left)

    def _unfinished(self) -> set[tuple[Path, int]]:
        found = set()
        for path in unfinished_files(str(self.folder)):
            with contextlib.suppress(FileNotFoundError):  # it has just been finished
                found.add((path, path.stat().st_mtime_ns))
        return found

    def is_evaluating(self) -> bool:
        """Return whether an evaluation has begun and not ended."""
        console = self.console.read_text(errors="replace")
        return console.rfind("Start inference on") > console.rfind("copypaste: ")

    def activity(self) -> str:
        """Return what the killed processes had been doing, by what they left behind."""
        if self.is_writing():
            return "writing a checkpoint"
        if "Starting training from" not in self.console.read_text(errors="replace"):
            return "starting"
        if _is_untagged(self.folder):
            return "between a checkpoint and its tag"
        return "evaluating" if self.is_evaluating() else "training"


def in_a_process(work: Callable[[], None], console: Path) -> bool:
    """Do some work in a forked process; return whether it succeeded."""
    pid = os.fork()
    if pid == 0:
        _leave_after(work, console)
    return os.waitpid(pid, 0)[1] == 0


def wait_until(condition: Callable[[], bool], seconds: float, pause: float = 0.0002) -> bool:
    """Wait for a condition; return whether it came within so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True


def _train(arguments: list, variables: dict[str, str]) -> None:
    os.environ.update(variables)
    main(argument_parser().parse_args([str(a) for a in arguments]))


def _leave_after(work: Callable[[], None], console: Path) -> None:
    """Work with the output in a file, and leave the process without this one's clean-up."""
    descriptor = os.open(console, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(descriptor, sys.stdout.fileno())
    os.dup2(descriptor, sys.stderr.fileno())
    status = 1
    try:
        work()
        status = 0
    except SystemExit as ending:
        status = ending.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _is_untagged(folder: Path) -> bool:
    newest = max(folder.glob("model_*.pth"), key=lambda p: p.stat().st_mtime_ns, default=None)
    tag = folder / "last_checkpoint"
    return newest is not None and (not tag.exists() or tag.read_text() != newest.name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _torchrun_variables(rank: int, processes: int, port: int) -> dict[str, str]:
    return {
        **{"RANK": str(rank), "LOCAL_RANK": str(rank)},
        **{"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
    }
