"""What a run writes beside its checkpoints, on disks and pipes that fail: the run goes on.

The first error of each file is a line in the log. The end of the run names all that is missing.
"""

import contextlib
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from detectron2.utils.file_io import PathManager

from focal_retina.detectron2_internals import OpenPathHandler
from focal_retina.files import replacing

logger = logging.getLogger(__name__)

# Of this process, as its log is: why each file is not on the disk now, how often it was refused,
# and what was opened for writing.
_refused: dict[str, str] = {}
_errors: Counter[str] = Counter()
_written: set[str] = set()


def refuse(name: str, error: OSError, then: str = "the run goes on without it") -> None:
    """Note that a file cannot be written, and log its first error in a row."""
    reason = error.strerror or str(error)
    _errors[name] += 1
    if name not in _refused:
        _refused[name] = reason  # first: the log may be the file
        logger.error(f"{name} cannot be written ({reason}); {then}")


def accept(name: str) -> None:
    """Note that a file has been written after all."""
    _refused.pop(name, None)


@contextlib.contextmanager
def spared(name: str) -> Iterator[None]:
    """Let no OSError out of the writing of a file: note it."""
    errors = _errors[name]
    try:
        yield
    except OSError as error:
        refuse(name, error)
    else:
        if _errors[name] == errors:  # a RunFile within has noted none
            accept(name)


def watch(folder: str) -> None:
    """Note from now on what Detectron2 cannot write into a run's folder, instead of an error."""
    _refused.clear()
    _written.clear()
    PathManager.register_handler(_RunFolder(folder))


def tell_missing() -> None:
    """Log one line on the files that the run should have left and has not; none if all is well."""
    removed = {name: "removed" for name in _written if not os.path.lexists(name)}
    if missing := removed | _refused:
        files = ", ".join(f"{name} ({reason})" for name, reason in sorted(missing.items()))
        logger.error(f"The run has ended; missing or incomplete on the disk: {files}")


@contextlib.contextmanager
def spared_output() -> Iterator[None]:
    """Let nothing end when the reader of this process's output has gone or its disk is full."""
    with ExitStack() as stack:
        streams = {"standard output": sys.stdout, "standard error": sys.stderr}
        redirections = (contextlib.redirect_stdout, contextlib.redirect_stderr)
        for redirect, (name, stream) in zip(redirections, streams.items(), strict=True):
            if stream is not None:  # it was closed from the start
                stack.callback(_flush_or_drop, stream)
                stack.enter_context(redirect(RunFile(name, stream)))
        yield


def _flush_or_drop(stream: IO) -> None:
    try:
        stream.flush()
    except OSError:  # Python's own flush at the end would make it the exit status
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class RunFile:
    """A file object that notes errors of the disk instead of raising them.

    Args:
        finishing: what turns the closed file into the one of that name, or removes it after an
            error; None for a file that grows in its place: the next flush writes what one could
            not.
        error: the file cannot be opened, and ``file`` is another.
    """

    def __init__(
        self,
        name: str,
        file: Any,
        finishing: ExitStack | None = None,
        error: OSError | None = None,
    ):
        self.name, self._file, self._error = name, file, error
        self._finishing = finishing

    def write(self, data: Any) -> int:
        try:
            self._file.write(data)
        except OSError as error:
            self._error = error  # what is lost stays lost
            refuse(self.name, error)
        return len(data)

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            if self._finishing is not None:
                self._error = error
            refuse(self.name, error)
        else:
            if self._error is None:
                accept(self.name)
            else:
                refuse(self.name, self._error)

    def close(self) -> None:
        with spared(self.name), self._finishing or ExitStack():
            self._file.close()
            if self._error is not None:
                raise self._error

    def __enter__(self) -> "RunFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _RunFolder(OpenPathHandler):
    """How Detectron2 opens files: those in one folder as ``RunFile``, new ones whole or not."""

    def __init__(self, folder: str):
        super().__init__()
        self._folder = os.path.join(os.path.abspath(folder), "")

    def open(self, path: str, mode: str, **options: Any) -> Any:
        path = os.path.abspath(path)
        if "r" in mode or not path.startswith(self._folder):
            return super().open(path, mode, **options)
        _written.add(path)
        try:
            if Path(path).is_fifo():
                raise OSError("it is a pipe, whose reader would be waited for")
            if "a" in mode:
                # Long enough for what comes until a full disk is noticed.
                options = {**options, "buffering": 1 << 20}
                return RunFile(path, super().open(path, mode, **options))
            with ExitStack() as stack:
                unfinished = stack.enter_context(replacing(path))
                file = super().open(unfinished, mode, **options)
                return RunFile(path, file, stack.pop_all())
        except OSError as error:
            refuse(path, error)
            return RunFile(path, open(os.devnull, mode), error=error)

    def make_folder(self, path: str) -> None:
        if not os.path.abspath(path).startswith(self._folder):
            return super().make_folder(path)
        with spared(path):
            super().make_folder(path)
