"""Write files that are whole, whenever the process or the machine dies."""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import torch

_UNFINISHED = ".unfinished"


def write_atomically(path: str, content: bytes | memoryview) -> None:
    """Write another file first, and rename it when it is on the disk.

    If an OSError says that this failed, what was there before still is.
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
    # Wait until the new name is on the disk, too.
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def save_atomically(content: dict, path: str) -> None:
    """Do what ``torch.save`` does, and leave a whole file or none; errors as above."""
    # In memory first: PyTorch hides why a disk refuses a file.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getbuffer())


def unfinished_files(folder: str) -> Iterator[Path]:
    """Yield the files that killed processes left of :func:`write_atomically` in a folder."""
    return Path(folder).glob("*" + _UNFINISHED)
