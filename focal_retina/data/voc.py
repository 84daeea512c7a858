"""Datasets in the layout of Pascal VOC, of any classes."""

import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from detectron2.structures import BoxMode

from focal_retina.errors import UserError

_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")


def voc_classes(folder: str) -> list[str]:
    """Return the sorted class names of all ``<folder>/Annotations``, or raise a UserError."""
    names = {
        _text(path, thing, "name")
        for path in Path(folder, "Annotations").glob("*.xml")
        for thing in _parse(path).iter("object")
    }
    if not names:
        raise UserError(f"no objects in the VOC annotations {folder}/Annotations/*.xml")
    return sorted(names)


def load_voc(folder: str, split: str, class_names: Sequence[str]) -> list[dict]:
    """Return the images of ``<folder>/ImageSets/Main/<split>.txt`` in Detectron2's format.

    As in Detectron2, difficult objects count, and 1 is subtracted from xmin and ymin (VOC's pixels
    start at 1). Unlike there, image ids are integers, and images may be PNG.

    A category id is a position in ``class_names``. A UserError names a missing file, or an
    annotation without size, name or box.
    """
    listing = Path(folder, "ImageSets", "Main", f"{split}.txt")
    try:
        lines = listing.read_text(errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"the VOC split {listing} cannot be read: {error.strerror}") from error
    stems = [line.split()[0] for line in lines if line.strip()]
    return [_record(folder, stem, i, class_names) for i, stem in enumerate(stems)]


def _record(folder: str, stem: str, image_id: int, class_names: Sequence[str]) -> dict:
    path = Path(folder, "Annotations", f"{stem}.xml")
    root = _parse(path)
    return {
        "file_name": _image_file(Path(folder, "JPEGImages", stem)),
        "image_id": image_id,
        "height": _pixels(path, root, "size/height"),
        "width": _pixels(path, root, "size/width"),
        "annotations": [_annotation(path, thing, class_names) for thing in root.iter("object")],
    }


def _image_file(stem: Path) -> str:
    for suffix in _SUFFIXES:
        if Path(f"{stem}{suffix}").is_file():
            return f"{stem}{suffix}"
    raise UserError(f"the VOC image {stem} does not exist with any of {', '.join(_SUFFIXES)}")


def _annotation(path: Path, thing: ElementTree.Element, class_names: Sequence[str]) -> dict:
    x0, y0, x1, y1 = (_number(path, thing, f"bndbox/{x}") for x in ("xmin", "ymin", "xmax", "ymax"))
    category = class_names.index(_text(path, thing, "name"))
    box = {"bbox": [x0 - 1, y0 - 1, x1, y1], "bbox_mode": BoxMode.XYXY_ABS}
    return {"category_id": category, **box}


def _parse(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise UserError(f"the VOC annotation {path} cannot be read: {error}") from error


def _text(path: Path, element: ElementTree.Element, tag: str) -> str:
    text = element.findtext(tag)
    if text is None or not text.strip():
        raise UserError(f"the VOC annotation {path} lacks <{tag}>")
    return text


def _pixels(path: Path, element: ElementTree.Element, tag: str) -> int:
    number = _number(path, element, tag)
    if not number.is_integer():
        raise UserError(f"the VOC annotation {path} has {number} in <{tag}>, not whole pixels")
    return int(number)


def _number(path: Path, element: ElementTree.Element, tag: str) -> float:
    text = _text(path, element, tag)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"the VOC annotation {path} has {text!r} in <{tag}>, which is no number")
    return number
