"""Datasets in the layout of Pascal VOC, of any classes."""

import copy
import json
import logging
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from focal_retina.data.checks.pictures import inspect
from focal_retina.data.checks.problems import Place
from focal_retina.errors import UserError

logger = logging.getLogger(__name__)

_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
# A line of a split that is more than a name: a suffix, whether a class is there, a comment.
_LINE = re.compile(r"(.+?)(\.(?:jpe?g|png|xml))?(\s+[-+]?[01])?(\s+#.*)?", re.IGNORECASE)
_DECLARED = re.compile(rb"""\s*<\?xml[^>]*?\sencoding\s*=\s*["']([\w.:-]+)["']""")


class VocSplit(NamedTuple):
    """The images of a split, N, with all their objects, A."""

    class_names: list[str]
    records: list[dict]  # N, in Detectron2's format
    files: list[str]  # N, of annotations
    objects: list[str]  # A, where in which file
    malformed: list[Place]  # what keeps images and objects from being here


class VocLoader:
    """Return the records of a split, as Detectron2's catalog wants it."""

    def __init__(self, split: VocSplit):
        self.split = split

    def __call__(self) -> list[dict]:
        return copy.deepcopy(self.split.records)


def register_voc(name: str, folder: str, split: str) -> None:
    """Register a split; raise a UserError about the first of what is wrong with its files."""
    found = read_voc(folder, split)
    if found.malformed:
        raise UserError(
            f"dataset {name}: {found.malformed[0]}; all of it is listed by "
            "python -m focal_retina.tools.check_dataset with this config"
        )
    DatasetCatalog.register(name, VocLoader(found))
    MetadataCatalog.get(name).set(
        thing_classes=found.class_names, dirname=folder, split=split, evaluator_type="coco"
    )


def read_voc(folder: str, split: str) -> VocSplit:
    """Read the images of ``<folder>/ImageSets/Main/<split>.txt``.

    The classes are the sorted names in all of ``<folder>/Annotations`` and its subfolders; a
    category id is a position among them. As in Detectron2, difficult objects count, and 1 is
    subtracted from xmin and ymin (VOC's pixels start at 1). Unlike there, image ids are integers,
    and images may be PNG. An image whose xml states no size, or 0, has that of its picture.

    Raises:
        UserError: the split cannot be read, or there is no image or object at all.
    """
    listing = Path(folder, "ImageSets", "Main", f"{split}.txt")
    found = VocSplit([], [], [], [], [])
    listed = {}
    for stem in _stems(folder, listing, found.malformed):
        path = Path(folder, "Annotations", f"{stem}.xml")
        listed[path] = stem
        with _collecting(found.malformed):
            _read_image(str(path), Path(folder, "JPEGImages", stem), found)
    if not listed and not found.malformed:
        raise UserError(f"the VOC split {listing} names no image")
    names = {x["category_id"] for record in found.records for x in record["annotations"]}
    names |= _other_names(Path(folder, "Annotations"), {*listed}, listing)
    if not names and not found.malformed:
        raise UserError(f"no objects in the VOC annotations {folder}/Annotations/*.xml")
    found.class_names.extend(sorted(names))
    labels = {name: i for i, name in enumerate(found.class_names)}
    for annotation in (x for record in found.records for x in record["annotations"]):
        annotation["category_id"] = labels[annotation["category_id"]]
    return found


class _VocError(Exception):
    """What is wrong with a file, at one place."""

    def __init__(self, path: str, note: str, value: object = None):
        self.place = Place(path, value, note)


@contextmanager
def _collecting(places: list[Place]) -> Iterator[None]:
    """Go on behind this context after a fault."""
    try:
        yield
    except _VocError as fault:
        places.append(fault.place)


def _stems(folder: str, listing: Path, malformed: list[Place]) -> Iterator[str]:
    """Yield the names that a split lists, which may have blanks."""
    try:
        lines = _decoded(str(listing), listing.read_bytes()).splitlines()
    except OSError as error:
        raise UserError(f"the VOC split {listing} cannot be read: {error.strerror}") from error
    except _VocError as fault:
        raise UserError(f"the VOC split {fault.place}") from fault
    for number, line in enumerate(lines, 1):
        text = line.strip()
        name, suffix, _, _ = match.groups("") if (match := _LINE.fullmatch(text)) else ("",) * 4
        known = (x for x in (text, name + suffix, name) if x and _is_listed(folder, x))
        if stem := next(known, None):
            yield stem
        elif text and not text.startswith("#"):
            note = f"there is no Annotations/{name}.xml"
            malformed.append(Place(f"{listing}, line {number},", text, note))


def _is_listed(folder: str, stem: str) -> bool:
    is_annotated = os.path.isfile(os.path.join(folder, "Annotations", f"{stem}.xml"))
    return is_annotated or _image_file(Path(folder, "JPEGImages", stem)) is not None


def _image_file(stem: Path) -> str | None:
    return next((f"{stem}{x}" for x in _SUFFIXES if os.path.isfile(f"{stem}{x}")), None)


def _other_names(folder: Path, listed: set[Path], listing: Path) -> set[str]:
    """Return the class names in the annotations that a split does not list."""
    names, strange = set(), []
    for path in folder.rglob("*.xml"):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if is_hidden or path in listed or not path.is_file():
            continue
        try:
            root = _parse(str(path))
        except _VocError as fault:
            strange.append(str(fault.place))
        else:
            objects = root.iter("object") if root.tag == "annotation" else ()
            names |= {_name(x.findtext("name")) for x in objects} - {""}
    if strange:
        logger.warning(
            f"{listing} does not list {len(strange)} files that are no VOC annotations, and that "
            f"are left out: {min(strange)}"
        )
    return names


def _read_image(path: str, stem: Path, found: VocSplit) -> None:
    """Add the record of an image with its objects, and all that is wrong."""
    root = _parse(path)
    annotations, objects = [], []
    for number, thing in enumerate(root.iter("object"), 1):
        with _collecting(found.malformed):
            place = f"{path}, object {number}"
            annotations.append(_annotation(place, thing))
            objects.append(place)
    file_name = _image_file(stem)
    if file_name is None:
        note = f"does not exist with any of {', '.join(_SUFFIXES)}"
        raise _VocError(f"the VOC image {stem}", note)
    width, height = _size(path, root, file_name)
    record = {"file_name": file_name, "image_id": len(found.records)}
    record |= {"height": height, "width": width, "annotations": annotations}
    found.records.append(record)
    found.files.append(path)
    found.objects.extend(objects)


def _size(path: str, root: ElementTree.Element, file_name: str) -> tuple[int, int]:
    """Return width and height; many programs write 0, or nothing, for those of the picture."""
    stated = [(root.findtext(f"size/{side}") or "0").strip() for side in ("width", "height")]
    sides = [_number(f"{path}, <size>", text or "0") for text in stated]
    if min(sides) < 0 or not all(side.is_integer() for side in sides):
        raise _VocError(f"{path}, <size>,", "expected whole pixels", stated)
    if min(sides) > 0:
        return int(sides[0]), int(sides[1])
    picture = inspect(file_name, decode=False)
    if picture.size is None:
        note = f"no size, and the picture {file_name} cannot be read: {picture.note}"
        raise _VocError(f"{path}, <size>", note)
    return picture.size


def _annotation(place: str, thing: ElementTree.Element) -> dict:
    """Return an object in Detectron2's format, but with the name of its class."""
    name = _name(thing.findtext("name"))
    if not name:
        raise _VocError(f"{place}, <name>", "missing, expected the name of a class")
    place = f"{place} ({name})"
    corners = []
    for tag in ("xmin", "ymin", "xmax", "ymax"):
        text = thing.findtext(f"bndbox/{tag}")
        if text is None or not text.strip():
            raise _VocError(f"{place}, <{tag}>", "missing, expected a number in <bndbox>")
        corners.append(_number(f"{place}, <{tag}>", text.strip()))
    x0, y0, x1, y1 = corners
    for axis, start, end in (("x", x0, x1), ("y", y0, y1)):
        if start > end:
            note = f"above <{axis}max>, which is {end:g}; exchange the two"
            raise _VocError(f"{place}, <{axis}min>", note, start)
    return {
        "category_id": name,
        "bbox": [x0 - 1, y0 - 1, x1, y1],
        "bbox_mode": BoxMode.XYXY_ABS,
    }


def _name(text: str | None) -> str:
    return " ".join((text or "").split())


def _number(place: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _VocError(place, "expected a number", text)
    return number


def _parse(path: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(_decoded(path, Path(path).read_bytes()))
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise _VocError(path, f"cannot be read: {error}") from error


def _decoded(path: str, content: bytes) -> str:
    """Return the text of a file, in the encoding that it marks or declares, or else UTF-8."""
    encoding = json.detect_encoding(content)
    declared = _DECLARED.match(content)
    if declared and encoding == "utf-8":
        encoding = declared[1].decode()
    try:
        return content.decode(encoding)
    except LookupError as error:
        raise _VocError(path, f"its encoding {encoding} is not known; save it as UTF-8") from error
    except ValueError as error:
        raise _VocError(path, f"its text is not {encoding}; save it as UTF-8") from error
