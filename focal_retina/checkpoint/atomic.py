"""Files that are either the old one or the whole new one, whenever the process or machine dies."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from detectron2.utils.file_io import PathManager

_UNFINISHED = ".unfinished"


def write_atomically(path: str, content: bytes | memoryview) -> None:
    """Write a file: under another name, then, when it is on the disk, rename it.

    A path of another file system that Detectron2's ``PathManager`` knows (``s3://...``) is written
    in its way.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    if "://" in path:
        with PathManager.open(path, "wb") as file:
            file.write(content)
        return
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
    """Yield what killed processes left of :func:`write_atomically` in a folder."""
    return Path(folder).glob("*" + _UNFINISHED)


def _sync_folder(folder: str) -> None:
    """Bring a renaming to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
