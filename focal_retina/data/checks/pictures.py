"""Checks of the picture files: do they exist, can they be read, are size and mode right."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from detectron2.data.detection_utils import read_image
from detectron2.utils.file_io import PathManager
from PIL import Image
from tqdm import tqdm

from focal_retina.data.checks.problems import Finding, Place, Problem, findings
from focal_retina.data.checks.table import Table

_EXIF_ORIENTATION = 274
_TRANSPOSED = (5, 6, 7, 8)  # the orientations that exchange width and height
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}  # of a file that is not cut off
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
    """Read each picture of a table: its header and its end, or with ``decode`` all of it."""
    names = table.images.file_names
    paths = [table.picture(i) if name else None for i, name in enumerate(names)]
    batches = [paths[i : i + _BATCH] for i in range(0, len(paths), _BATCH)]
    pictures: list[Picture] = []
    with (
        ThreadPoolExecutor(num_threads) as pool,
        tqdm(total=len(paths), desc="pictures", disable=None) as bar,
    ):
        for batch in pool.map(lambda batch: [inspect(path, decode) for path in batch], batches):
            pictures += batch
            bar.update(len(batch))
    return pictures


def inspect(path: str | None, decode: bool) -> Picture:
    """Read the facts of one picture; there are none of None, a malformed file name."""
    if path is None:
        return Picture()
    if not PathManager.exists(path):
        return Picture(Problem.FILE_MISSING)
    try:
        picture, is_whole = _read_header(path)
        if decode or not is_whole:
            height, width = read_image(path, "RGB").shape[:2]
            picture = picture._replace(size=(width, height))
    except Exception as error:  # Pillow's parsers raise whatever a broken file makes them
        return Picture(Problem.FILE_UNREADABLE, f"{type(error).__name__}: {error}")
    return picture


def _read_header(path: str) -> tuple[Picture, bool]:
    """Return the facts of a picture, and whether its file is not cut off."""
    with PathManager.open(path, "rb") as file:
        image = Image.open(file)
        orientation = _orientation(image)
        size = image.size[::-1] if orientation in _TRANSPOSED else image.size
        end = _ENDS.get(image.format, b"")
        num_bytes = file.seek(0, os.SEEK_END)
        file.seek(max(0, num_bytes - len(end)))
        is_whole = file.read() == end
    return Picture(None, "", size, image.mode, orientation, num_bytes), is_whole


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # hardly any PNG has EXIF after its pixels, and to look there means to decode it
    return image.getexif().get(_EXIF_ORIENTATION, 1)


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
        if picture.orientation in _TRANSPOSED:
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
