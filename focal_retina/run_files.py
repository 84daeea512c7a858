"""What a run writes beside its checkpoints, on disks and pipes that fail: the run goes on.

The first error of each file is a line in the log. The end of the run names all that is missing.
"""

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detectron2.utils.file_io import PathManager

from focal_retina.detectron2_internals import OpenPathHandler
from focal_retina.files import write_atomically

logger = logging.getLogger(__name__)

# Of this process, as its log is: why each file is not on the disk now, and what was to be there.
_refused: dict[str, str] = {}
_written: set[str] = set()


def refuse(name: str, error: OSError, then: str = "the run goes on without it") -> None:
    """Note that a file cannot be written, and log its first error in a row."""
    reason = error.strerror or str(error)
    if name not in _refused:
        _refused[name] = reason  # first: the log may be the file
        logger.error(f"{name} cannot be written ({reason}); {then}")


def accept(name: str) -> None:
    """Note that a file has been written after all."""
    _refused.pop(name, None)


@contextlib.contextmanager
def spared(name: str, *, is_whole: bool = True) -> Iterator[None]:
    """Let no OSError out of the writing of a file: note it.

    Args:
        is_whole: the file is accepted where there is no error.
    """
    try:
        yield
    except OSError as error:
        refuse(name, error)
    else:
        if is_whole:
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
    out, err = sys.stdout, sys.stderr  # None where it was closed from the start
    sys.stdout = out and RunFile("standard output", out)
    sys.stderr = err and RunFile("standard error", err)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
        for stream in filter(None, (out, err)):
            try:
                stream.flush()
            except OSError:  # Python's own flush at the end would make it the exit status
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class RunFile:
    """A stream or a growing file, which notes errors of the disk instead of raising them.

    What a flush could not write, the next one writes.

    Args:
        is_whole: False where something is lost already.
    """

    def __init__(self, name: str, file: Any, is_whole: bool = True):
        self.name, self._file, self._is_whole = name, file, is_whole

    def write(self, data: Any) -> int:
        try:
            self._file.write(data)
        except OSError as error:
            self._is_whole = False  # what is lost stays lost
            refuse(self.name, error)
        return len(data)

    def flush(self) -> None:
        with spared(self.name, is_whole=self._is_whole):
            self._file.flush()

    def close(self) -> None:
        with spared(self.name, is_whole=self._is_whole):
            self._file.close()

    def __enter__(self) -> "RunFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _NewFile(io.BytesIO):
    """A file that comes to the disk, whole, when it is closed."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def close(self) -> None:
        if not self.closed:
            with spared(self.name):
                write_atomically(self.name, self.getvalue())
        super().close()


class _RunFolder(OpenPathHandler):
    """How Detectron2 writes: within one folder, files and folders are spared."""

    def __init__(self, folder: str):
        super().__init__()
        self._folder = os.path.join(os.path.abspath(folder), "")

    def open(self, path: str, mode: str, **options: Any) -> Any:
        path = os.path.abspath(path)
        if "r" in mode or not path.startswith(self._folder):
            return super().open(path, mode, **options)
        _written.add(path)
        if "a" not in mode:
            file = _NewFile(path)
            return file if "b" in mode else io.TextIOWrapper(file, options.get("encoding"))
        try:
            if Path(path).is_fifo():
                raise OSError("it is a pipe, whose reader would be waited for")
            # Long enough for what comes until a full disk is noticed.
            return RunFile(path, super().open(path, mode, **{**options, "buffering": 1 << 20}))
        except OSError as error:
            refuse(path, error)
            return RunFile(path, open(os.devnull, mode), is_whole=False)

    def make_folder(self, path: str) -> None:
        if not os.path.abspath(path).startswith(self._folder):
            return super().make_folder(path)
        with spared(path):
            super().make_folder(path)
