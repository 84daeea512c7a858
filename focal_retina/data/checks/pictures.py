"""Checks of the picture files: do they exist, can they be read, are size and mode right."""

import contextlib
import functools
import math
import os
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.pool import ThreadPool
from typing import BinaryIO, NamedTuple

import numpy as np
from detectron2.utils.file_io import PathManager
from tqdm import tqdm

from focal_retina.data.checks.problems import Finding, Place, Problem, findings
from focal_retina.data.checks.table import Table
from focal_retina.data.file_names import Listing, file_meant, names_in
from focal_retina.data.pictures import LYING, load, opened, orientation, pixels, read_header
from focal_retina.errors import ImageError

_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}  # of a file that is not cut off
_EXIF_OF_PNG = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
_LARGE = 2**26  # pixels
_one_at_a_time = threading.Lock()
_BATCH = 64  # pictures per task of the pool


class Picture(NamedTuple):
    """Facts about the picture of a file."""

    problem: Problem | None = None  # why training cannot use it
    note: str = ""
    size: tuple[int, int] | None = None  # width and height, pixels, turned upright
    mode: str = ""  # Pillow's
    orientation: int = 1  # EXIF's; 1 is upright
    num_bytes: int = 0


def inspect_pictures(table: Table, decode: bool, num_threads: int) -> list[Picture]:
    """Read each picture of a table: its header and its end, or with ``decode`` all of it.

    All of it is read, too, where its format does not tell whether the file is cut off.
    """
    names = table.images.file_names
    paths = [table.picture(i) if name else None for i, name in enumerate(names)]
    inspect = functools.partial(_inspect, decode=decode, listing=functools.cache(names_in))
    with ThreadPool(num_threads) as pool:
        pictures = pool.imap(inspect, paths, _BATCH)
        return list(tqdm(pictures, total=len(paths), desc="pictures", disable=None))


def _inspect(path: str | None, decode: bool, listing: Listing) -> Picture:
    """Read the facts of one picture; there are none of None, a malformed file name."""
    if path is None:
        return Picture()
    if not PathManager.exists(path):
        return Picture(Problem.FILE_MISSING, file_meant(path, listing).removeprefix("; "))
    try:
        with opened(path) as file:
            return _facts(file, decode)
    except ImageError as error:
        reason = str(error).removeprefix(f"image {path} cannot be read: ")
        return Picture(Problem.FILE_UNREADABLE, reason)


def _facts(file: BinaryIO, decode: bool) -> Picture:
    image = read_header(file)
    size, turn, num_bytes = image.size, orientation(image), file.seek(0, os.SEEK_END)
    if decode or not _is_whole(file, image.format):
        # Several large ones at a time would not fit into the memory.
        with _one_at_a_time if math.prod(size) > _LARGE else contextlib.nullcontext():
            upright, turn = load(file)
            height, width = pixels(upright, "RGB").shape[:2]
        size = width, height
    elif turn in LYING:
        size = size[::-1]
    return Picture(None, "", size, image.mode, turn, num_bytes)


def _is_whole(file: BinaryIO, format: str | None) -> bool:
    """Return whether the end shows that a file is not cut off, and that no EXIF follows pixels."""
    if format not in _ENDS:
        return False
    file.seek(max(0, file.seek(0, os.SEEK_END) - 2**16))
    end = file.read()
    return end.endswith(_ENDS[format]) and not (
        format == "PNG" and any(word in end for word in _EXIF_OF_PNG)
    )


def check_pictures(table: Table, pictures: Sequence[Picture]) -> list[Finding]:
    """Return what is wrong with the pictures of a table, errors first."""
    found: dict[Problem, list[Place]] = {}
    for i, picture in enumerate(pictures):
        for problem, note in _problems(picture, table.images.sizes[i]):
            found.setdefault(problem, []).append(table.picture_place(i, note))
    return findings(table.source, found.items())


def _problems(picture: Picture, stated: np.ndarray) -> Iterator[tuple[Problem, str]]:
    """Yield the problems of a picture with notes, given width and height in the json."""
    if picture.problem is not None:
        yield picture.problem, picture.note
        return
    if picture.size and not np.isnan(stated).any() and picture.size != tuple(stated):
        width, height = (int(side) for side in stated)
        note = f"{picture.size[0]}x{picture.size[1]}, the json says {width}x{height}"
        if picture.orientation in LYING:
            note += f", before EXIF's orientation {picture.orientation} turns it upright"
        yield Problem.SIZE_DIFFERS, note
    elif picture.orientation in range(2, 9):
        yield Problem.EXIF_ROTATED, f"orientation {picture.orientation}"
    if picture.mode in ("1", "L", "LA"):
        yield Problem.GREY, f"mode {picture.mode}"
    elif picture.mode == "CMYK":
        yield Problem.CMYK, ""
    elif picture.mode.startswith(("I", "F")):
        yield Problem.MORE_THAN_8_BITS, f"mode {picture.mode}"
