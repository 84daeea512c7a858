"""A training in processes of its own, forked from this one, which has imported everything.

This process must not compute anything with PyTorch before: its threads do not survive a fork.
"""

import contextlib
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

# Imported here, so that not every training imports it at its first write.
import torch.utils.tensorboard  # noqa: F401

from focal_retina.engine import argument_parser, main


class TrainingRun:
    """``train_net.py --resume`` with a config, in one process group.

    Args:
        folder: OUTPUT_DIR; what the processes print goes to ``console.txt`` in it.
        processes: how many train together.
        file_limit: bytes that a file may have, as on a full disk; None for no limit.
        has_reader: somebody takes what the processes print.
        console: name of the file with that.
    """

    def __init__(
        self,
        config_file: Path,
        folder: Path,
        processes: int,
        *,
        file_limit: int | None = None,
        has_reader: bool = True,
        console: str = "console.txt",
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.console, self._file_limit, self._has_reader = folder / console, file_limit, has_reader
        self._statuses: list[int] = []
        self.console.write_text("")
        # A killed run may have left half a file, which this one will remove.
        self._left_by_others = self._unfinished()
        arguments = ["--resume", "--config-file", config_file, "OUTPUT_DIR", folder]
        port = _free_port()
        self.pids = []
        for rank in range(processes):
            variables = _torchrun_variables(rank, processes, port) if processes > 1 else {}
            self.pids.append(self._fork(lambda: _train(arguments, variables)))  # noqa: B023

    def _fork(self, work: Callable[[], None]) -> int:
        """Fork a process into the group of the first one; return its id."""
        group = self.pids[0] if self.pids else 0
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, group)
            if self._file_limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (self._file_limit,) * 2)
            _work_and_exit(work, self.console, has_reader=self._has_reader)
        with contextlib.suppress(PermissionError):  # the child was faster
            os.setpgid(pid, group or pid)
        return pid

    def has_ended(self) -> bool:
        """Return whether the main process has ended."""
        return os.waitid(os.P_PID, self.pids[0], os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def have_all_ended(self) -> bool:
        """Return whether all processes have ended."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return all(os.waitid(os.P_PID, pid, options) is not None for pid in self.pids)

    def send(self, number: int, rank: int) -> None:
        """Send a signal to the process of a rank, even if it has just ended."""
        os.kill(self.pids[rank], number)

    def kill(self) -> None:
        """Kill all processes, the data workers included, as ``kill -9`` does."""
        os.killpg(self.pids[0], signal.SIGKILL)

    def pause(self) -> None:
        """Stop all processes until ``go_on``, or until they are killed."""
        os.killpg(self.pids[0], signal.SIGSTOP)

    def go_on(self) -> None:
        """Let paused processes go on."""
        os.killpg(self.pids[0], signal.SIGCONT)

    def wait(self) -> bool:
        """Wait for the end of all processes; return whether all of them succeeded."""
        self._statuses = self._statuses or [os.waitpid(pid, 0)[1] for pid in self.pids]
        return not any(self._statuses)

    def activity(self) -> str:
        """Return what the killed processes were doing, judged by the files they left."""
        if self.is_writing():
            return "writing a checkpoint"
        if not self.is_training():
            return "starting"
        if _newest_checkpoint_is_untagged(self.folder):
            return "between a checkpoint and its tag"
        return "evaluating" if self.is_evaluating() else "training"

    def is_writing(self) -> bool:
        """Return whether a checkpoint of this run, or its tag, is half on the disk."""
        return bool(self._unfinished() - self._left_by_others)

    def is_training(self) -> bool:
        """Return whether the training has begun."""
        return "Starting training from" in self._printed()

    def is_evaluating(self) -> bool:
        """Return whether an evaluation has begun and not ended."""
        printed = self._printed()
        return printed.rfind("Start inference on") > printed.rfind("copypaste: ")

    def resumed_from(self) -> str:
        """Return the name of the checkpoint that the run started from, or "the beginning"."""
        lines = self._printed().splitlines()
        loaded = [line for line in lines if "[Checkpointer] Loading from" in line]
        return Path(loaded[-1].split(" ...")[0]).name if loaded else "the beginning"

    def _printed(self) -> str:
        return self.console.read_text(errors="replace")

    def _unfinished(self) -> set[tuple[Path, int]]:
        """Return the half-written files with their times."""
        found = set()
        for path in self.folder.glob(".unfinished-*"):
            with contextlib.suppress(FileNotFoundError):  # it has just been finished
                found.add((path, path.stat().st_mtime_ns))
        return found


def succeeds_in_a_process(work: Callable[[], None], console: Path) -> bool:
    """Do some work in a forked process, its output in a file; return whether it succeeded."""
    pid = os.fork()
    if pid == 0:
        _work_and_exit(work, console)
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


def _work_and_exit(work: Callable[[], None], console: Path, *, has_reader: bool = True) -> None:
    """Work with the output in a file, and exit without this process's clean-up."""
    descriptor = os.open(console, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    if not has_reader:
        reader, descriptor = os.pipe()
        os.close(reader)
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
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _newest_checkpoint_is_untagged(folder: Path) -> bool:
    newest = max(folder.glob("model_*.pth"), key=lambda p: p.stat().st_mtime_ns, default=None)
    tag = folder / "last_checkpoint"
    return newest is not None and (not tag.exists() or tag.read_text() != newest.name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _torchrun_variables(rank: int, processes: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
