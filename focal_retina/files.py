"""Write files that are whole, whenever the process or the machine dies."""

import contextlib
import io
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from focal_retina.errors import UserError

_UNFINISHED = ".unfinished-"
_count = itertools.count()


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[str]:
    """Give the name of another file to write, with the same suffix, which then becomes ``path``.

    The other file is renamed when it is on the disk. After any exception it is removed, and what
    was there before still is.

    Raises:
        OSError: the file cannot be written.
    """
    folder, name = os.path.split(os.path.abspath(path))
    suffix = os.path.splitext(name)[1]
    unfinished = os.path.join(folder, f"{_UNFINISHED}{os.getpid()}-{next(_count)}{suffix}")
    try:
        yield unfinished
        _sync(unfinished)
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(unfinished)
        raise
    _sync(folder)  # the new name


def _sync(path: str) -> None:
    """Wait until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: str | os.PathLike, content: bytes | memoryview) -> None:
    """Write the content of a file, by :func:`replacing`."""
    with replacing(path) as unfinished, open(unfinished, "wb") as file:
        file.write(content)


def save_atomically(content: dict, path: str | os.PathLike) -> None:
    """Do what ``torch.save`` does, and leave a whole file or none; errors as above."""
    # In memory first: PyTorch hides why a disk refuses a file.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getbuffer())


@contextlib.contextmanager
def output(path: str | os.PathLike, inputs: Iterable[str | os.PathLike] = ()) -> Iterator[str]:
    """Do what :func:`replacing` does, for a file that a user names.

    Raises:
        UserError: the file is one of the ``inputs``, or cannot be written.
    """
    refuse_inputs(path, inputs)
    with write_errors(path), replacing(path) as unfinished:
        yield unfinished


@contextlib.contextmanager
def write_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turn an OSError into a UserError that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


def refuse_inputs(path: str | os.PathLike, inputs: Iterable[str | os.PathLike]) -> None:
    """Raise a UserError if writing ``path`` would replace one of the ``inputs``."""
    for source in inputs:
        if os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
            raise UserError(f"{path} is read here, so it cannot be written too: name another file")


def unfinished_files(folder: str | os.PathLike) -> Iterator[Path]:
    """Yield the files that processes which are gone have left of :func:`replacing` in a folder."""
    for path in Path(folder).glob(f"{_UNFINISHED}*"):
        process = path.name.removeprefix(_UNFINISHED).partition("-")[0]
        is_plain = path.is_file() and not path.is_symlink()
        if is_plain and process.isdigit() and not _is_alive(int(process)):
            yield path


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
