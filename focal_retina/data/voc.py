"""Datasets in the layout of Pascal VOC, of any classes."""

import copy
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from detectron2.data import DatasetCatalog, MetadataCatalog

from focal_retina.data.checks.problems import Place
from focal_retina.data.voc_xml import VocError, annotation_of, clean_name, parse, size_of, text_of
from focal_retina.errors import UserError

logger = logging.getLogger(__name__)

_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
# A line of a split that is more than a name: a suffix, whether a class is there, a comment.
_LINE = re.compile(r"(.+?)(\.(?:jpe?g|png|xml))?(\s+[-+]?[01])?(\s+#.*)?", re.IGNORECASE)


class VocSplit(NamedTuple):
    """The images of a split, N, with all their objects, A; Detectron2's catalog calls it."""

    class_names: list[str]
    records: list[dict]  # N, in Detectron2's format
    files: list[str]  # N, of annotations
    objects: list[str]  # A, where in which file
    malformed: list[Place]  # what keeps images and objects from being here

    def __call__(self) -> list[dict]:
        return copy.deepcopy(self.records)


def register_voc(name: str, folder: str, split: str) -> None:
    """Register a split; raise a UserError about the first of what is wrong with its files."""
    found = read_voc(folder, split)
    if found.malformed:
        raise UserError(
            f"dataset {name}: {found.malformed[0]}; all of it is listed by "
            "python -m focal_retina.tools.check_dataset with this config"
        )
    DatasetCatalog.register(name, found)
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


@contextmanager
def _collecting(places: list[Place]) -> Iterator[None]:
    """Go on behind this context after a fault."""
    try:
        yield
    except VocError as fault:
        places.append(fault.place)


def _stems(folder: str, listing: Path, malformed: list[Place]) -> Iterator[str]:
    """Yield the names that a split lists, which may have blanks."""
    try:
        lines = text_of(str(listing)).splitlines()
    except VocError as fault:
        raise UserError(f"the VOC split {fault.place}") from fault
    for number, line in enumerate(lines, 1):
        text = line.strip()
        name, suffix, _, _ = match.groups("") if (match := _LINE.fullmatch(text)) else ("",) * 4
        for stem in filter(None, (text, name + suffix, name)):
            is_annotated = os.path.isfile(f"{folder}/Annotations/{stem}.xml")
            if is_annotated or _image_file(Path(folder, "JPEGImages", stem)):
                yield stem
                break
        else:
            if text and not text.startswith("#"):
                note = f"there is no Annotations/{name}.xml"
                malformed.append(Place(f"{listing}, line {number},", text, note))


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
            root = parse(str(path))
        except VocError as fault:
            strange.append(str(fault.place))
        else:
            objects = root.iter("object") if root.tag == "annotation" else ()
            names |= {clean_name(x.findtext("name")) for x in objects} - {""}
    if strange:
        logger.warning(
            f"{listing} does not list {len(strange)} files that are no VOC annotations, and that "
            f"are left out: {min(strange)}"
        )
    return names


def _read_image(path: str, stem: Path, found: VocSplit) -> None:
    """Add the record of an image with its objects, and all that is wrong."""
    root = parse(path)
    annotations, objects = [], []
    for number, thing in enumerate(root.iter("object"), 1):
        with _collecting(found.malformed):
            place = f"{path}, object {number}"
            annotations.append(annotation_of(place, thing))
            objects.append(place)
    file_name = _image_file(stem)
    if file_name is None:
        note = f"does not exist with any of {', '.join(_SUFFIXES)}"
        raise VocError(f"the VOC image {stem}", note)
    width, height = size_of(path, root, file_name)
    record = {"file_name": file_name, "image_id": len(found.records)}
    record |= {"height": height, "width": width, "annotations": annotations}
    found.records.append(record)
    found.files.append(path)
    found.objects.extend(objects)
