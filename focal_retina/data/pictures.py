"""Read picture files: in training, evaluation, prediction and the checks of datasets."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from detectron2.data.detection_utils import convert_PIL_to_numpy
from detectron2.utils.file_io import PathManager
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from focal_retina.data.file_names import file_meant
from focal_retina.errors import ImageError, UserError

# Reading takes up to 14 bytes per pixel, so that a picture of 23,000 x 23,000 pixels fits into 8 GB
# of memory. A file of one kilobyte may claim many times as many; Pillow, which refuses twice the
# pixels that it warns of, has a third of this limit.
MAX_PIXELS = 2**29
_LONGEST_SIDE = 2**20  # each row takes memory of its own
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_T = Image.Transpose  # by EXIF's orientation; the latter ones exchange width and height
LYING = {5: _T.TRANSPOSE, 6: _T.ROTATE_270, 7: _T.TRANSVERSE, 8: _T.ROTATE_90}
_TURNS = {2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM, **LYING}


def read_picture(file_name: str | os.PathLike, format: str | None = "RGB") -> np.ndarray:
    """Return a picture as Detectron2's ``read_image`` does: (H, W, 3), uint8, if RGB or BGR.

    It is turned upright once, as its EXIF data says; data that cannot be read counts as none. The
    first frame or page is read. Grey, also of one bit, and palettes become RGB, CMYK without a
    profile, and transparency is dropped. Pixels of 16 bits are scaled to 8, where Detectron2 cuts
    them off at 255.

    Args:
        format: a mode of Pillow, or Detectron2's "BGR" or "YUV-BT.601"; None for the file's mode.

    Raises:
        ImageError: the file is missing, no regular file, damaged (also if only the checksum of any
            chunk of a PNG does not fit), too large, or its numbers have another range.
    """
    with opened(file_name) as file:
        return pixels(load(file)[0], format)


@contextmanager
def opened(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a picture; whatever is raised inside, as by Pillow's parsers, becomes an ImageError."""
    try:
        # To open a pipe would wait for its writer, and a device may have no end.
        if os.path.exists(path) and not os.path.isfile(path):
            raise UserError("it is a folder" if os.path.isdir(path) else "it is no regular file")
        with PathManager.open(os.fspath(path), "rb") as file:
            yield file
    except Exception as error:
        raise ImageError(f"image {path} cannot be read: {_reason(error, path)}") from error


def read_header(file: BinaryIO) -> Image.Image:
    """Open a picture that is not decoded yet; raise a UserError if a side is too long."""
    image = Image.open(file)
    if max(image.size) > _LONGEST_SIDE:
        raise UserError(f"it has a side of more than {_LONGEST_SIDE:,} pixels; cut it into tiles")
    return image


def load(file: BinaryIO) -> tuple[Image.Image, int]:
    """Decode a picture; return it, upright, and the orientation that turned it."""
    file.seek(0)
    image = read_header(file)
    if image.format == "PNG":
        image.verify()  # Pillow ignores the checksums of the pixels, and of what follows them
        file.seek(0)
        image = Image.open(file)
    if isinstance(image, TiffImageFile):
        found = orientation(image)
        image.load()  # turns it
        return image, found
    image.load()
    found = orientation(image)
    return (image.transpose(_TURNS[found]) if found in _TURNS else image), found


def orientation(image: Image.Image) -> int:
    """Return EXIF's orientation, 1 to 8; 1 is upright. EXIF that cannot be read counts as none."""
    try:
        # A PNG's own method would decode the picture.
        found = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    except Exception:  # the parsers raise whatever a broken file makes them
        return 1
    return int(found) if found in _TURNS else 1


def pixels(image: Image.Image, format: str | None) -> np.ndarray:
    """Return the pixels of an image as :func:`read_picture` does."""
    if format and image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise UserError("its pixels are numbers of unknown range; convert it to 8 bits")
        image = Image.fromarray((values // 257).astype(np.uint8))
    return convert_PIL_to_numpy(image, format)


def _reason(error: Exception, path: str | os.PathLike) -> str:
    match error:
        case FileNotFoundError():
            return f"it does not exist{file_meant(path)}"
        case UnidentifiedImageError():
            return "its format is unknown, or its header is damaged"
        case Image.DecompressionBombError():
            return f"it has more than {MAX_PIXELS:,} pixels; scale it down or cut it into tiles"
        case OSError() | SyntaxError() | UserError():
            return " ".join((getattr(error, "strerror", None) or str(error)).split())
    return f"it is damaged, or too large for the memory ({type(error).__name__}: {error})"
