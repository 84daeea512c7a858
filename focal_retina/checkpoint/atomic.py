"""Write files that are whole, whenever the process or the machine dies."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_UNFINISHED = ".unfinished"


def write_atomically(path: str, content: bytes | memoryview) -> None:
    """Write another file first, and rename it when it is on the disk.

    Raises:
        OSError: the file cannot be written; what was there before still is.
    """
    unfinished = path + _UNFINISHED
    try:
        with open(unfinished, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.remove(unfinished)
        raise
    _sync_folder(os.path.dirname(path) or ".")


def unfinished_files(folder: str) -> Iterator[Path]:
    """Yield the files that killed processes left of :func:`write_atomically` in a folder."""
    return Path(folder).glob("*" + _UNFINISHED)


def _sync_folder(folder: str) -> None:
    """Wait until the new name is on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
