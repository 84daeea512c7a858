"""Reading one xml of Pascal VOC."""

import json
import math
import os
import re
from pathlib import Path
from xml.etree import ElementTree

from detectron2.structures import BoxMode

from focal_retina.data.checks.problems import Place
from focal_retina.data.pictures import read_picture
from focal_retina.errors import ImageError

_DECLARED = re.compile(rb"""\s*<\?xml[^>]*?\sencoding\s*=\s*["']([\w.:-]+)["']""")


class VocError(Exception):
    """What is wrong with a file, at one place."""

    def __init__(self, path: str, note: str, value: object = None):
        self.place = Place(path, value, note)


def size_of(path: str, root: ElementTree.Element, file_name: str) -> tuple[int, int]:
    """Return width and height; many programs write 0, or nothing, for those of the picture."""
    stated = [(root.findtext(f"size/{side}") or "0").strip() for side in ("width", "height")]
    sides = [_number(f"{path}, <size>", text or "0") for text in stated]
    if min(sides) < 0 or not all(side.is_integer() for side in sides):
        raise VocError(f"{path}, <size>,", "expected whole pixels", stated)
    if min(sides) > 0:
        return int(sides[0]), int(sides[1])
    try:
        height, width = read_picture(file_name).shape[:2]
    except ImageError as error:
        note = f"no size, and {error}"
        raise VocError(f"{path}, <size>", note) from error
    return width, height


def annotation_of(place: str, thing: ElementTree.Element) -> dict:
    """Return an object in Detectron2's format, but with the name of its class."""
    name = clean_name(thing.findtext("name"))
    if not name:
        raise VocError(f"{place}, <name>", "missing, expected the name of a class")
    place = f"{place} ({name})"
    corners = []
    for tag in ("xmin", "ymin", "xmax", "ymax"):
        text = thing.findtext(f"bndbox/{tag}")
        if text is None or not text.strip():
            raise VocError(f"{place}, <{tag}>", "missing, expected a number in <bndbox>")
        corners.append(_number(f"{place}, <{tag}>", text.strip()))
    x0, y0, x1, y1 = corners
    for axis, start, end in (("x", x0, x1), ("y", y0, y1)):
        if start > end:
            note = f"above <{axis}max>, which is {end:g}; exchange the two"
            raise VocError(f"{place}, <{axis}min>", note, start)
    return {
        "category_id": name,
        "bbox": [x0 - 1, y0 - 1, x1, y1],
        "bbox_mode": BoxMode.XYXY_ABS,
    }


def clean_name(text: str | None) -> str:
    """Return a name with single blanks; white space around it is no part of it."""
    return " ".join((text or "").split())


def _number(place: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise VocError(place, "expected a number", text)
    return number


def parse(path: str) -> ElementTree.Element:
    """Return the root of a file."""
    try:
        return ElementTree.fromstring(text_of(path))
    except (ValueError, ElementTree.ParseError) as error:
        raise VocError(path, f"cannot be read: {error}") from error


def text_of(path: str) -> str:
    """Return the text of a file, in the encoding that it marks or declares, or else UTF-8."""
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe, say, which never ends
        raise VocError(path, "is no file")
    encoding = "utf-8"
    try:
        content = Path(path).read_bytes()
        encoding, declared = json.detect_encoding(content), _DECLARED.match(content)
        if declared and encoding == "utf-8":
            encoding = declared[1].decode()
        return content.decode(encoding)
    except OSError as error:
        raise VocError(path, f"cannot be read: {error.strerror}") from error
    except LookupError as error:
        raise VocError(path, f"its encoding {encoding} is not known; save it as UTF-8") from error
    except ValueError as error:
        raise VocError(path, f"its text is not {encoding}; save it as UTF-8") from error
