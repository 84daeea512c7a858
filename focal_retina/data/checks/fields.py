"""The form of COCO json: which keys an entry has, with which values."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from focal_retina.data.checks.problems import Place

# The width or height of an image that need not state it.
NOT_STATED = object()
_NUMBERS = {int, float}  # not bool, which json keeps apart
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which no file can hold


class Names(NamedTuple):
    """Functions from the number of an entry to its name in a report."""

    images: Callable[[int], str] = "images[{}]".format
    categories: Callable[[int], str] = "categories[{}]".format
    annotations: Callable[[int], str] = "annotations[{}]".format


def is_id(value: object) -> bool:
    return type(value) in (int, str) or (type(value) is float and value.is_integer())


def is_box(value: object) -> bool:
    """Return whether a value is four numbers, which may be NaN or infinite."""
    if type(value) is not list or len(value) != 4 or not {*map(type, value)} <= _NUMBERS:
        return False
    try:
        math.hypot(*value)
    except OverflowError:  # an integer too large for a float
        return False
    return True


def _is_side(value: object) -> bool:
    is_number = type(value) in _NUMBERS
    return value is NOT_STATED or (is_number and 1 <= value < 2**31 and value % 1 == 0)


def _is_name(value: object) -> bool:
    return type(value) is str and value != ""


def class_name(value: object) -> str:
    """Return the name of a class, which may be a number; "" where it is malformed."""
    name = str(value) if type(value) in {str, *_NUMBERS} else ""
    return "" if _SURROGATE.search(name) else name


def _is_segmentation(value: object) -> bool:
    """Return whether a value is nothing, polygons, or a run-length code."""
    if not value:
        return True
    if type(value) is not dict:
        return type(value) is list and all(type(x) is list and _are_numbers(x) for x in value)
    counts, size = value.get("counts"), value.get("size")
    if not (type(size) is list and len(size) == 2 and all(_is_side(x) for x in size)):
        return False
    if type(counts) is list:
        return all(type(x) is int and x >= 0 for x in counts) and sum(counts) == math.prod(size)
    return type(counts) is str and counts.isascii()


def _is_keypoints(value: object) -> bool:
    return not value or (type(value) is list and len(value) % 3 == 0 and _are_numbers(value))


def _are_numbers(values: list) -> bool:
    return {*map(type, values)} <= _NUMBERS


# Field of a place -> key of the entry that tells it.
_OWNERS = {
    "images": {"image_id": "id", "file_name": "file_name"},
    "categories": {},
    "annotations": {"annotation_id": "id", "image_id": "image_id"},
}
# Of each key: what it may be, the same in words, and the default if the key may be missing.
_FIELDS = {
    "images": {
        "id": (is_id, "expected an integer", None),
        "file_name": (_is_name, "expected a file name", None),
        "width": (_is_side, "expected the picture's width in pixels", None),
        "height": (_is_side, "expected the picture's height in pixels", None),
    },
    "categories": {
        "id": (is_id, "expected an integer", None),
        "name": (class_name, "expected a name", None),
    },
    "annotations": {
        "id": (is_id, "expected an integer", None),
        "image_id": (is_id, "expected the id of an image", None),
        "category_id": (is_id, "expected the id of a category", None),
        "bbox": (is_box, "expected four numbers, x, y, width and height in pixels", None),
        "iscrowd": (lambda x: type(x) in {*_NUMBERS, bool} and x in (0, 1), "expected 0 or 1", 0),
        "ignore": (lambda x: x == 0, "Detectron2 refuses annotations to be ignored", 0),
        "area": (lambda x: type(x) in _NUMBERS, "expected the area in pixels", 0),
    },
}
# The same for Detectron2's own loader, which also reads masks and keypoints.
_DETECTRON2S = {
    "images": {},
    "categories": {"name": (lambda x: _is_name(x) and class_name(x), "expected a name", None)},
    "annotations": {
        "segmentation": (_is_segmentation, "expected polygons or a run-length code", None),
        "keypoints": (_is_keypoints, "expected three numbers for each point", None),
    },
}


def malformed_entries(
    kind: str, entries: Sequence, names: Names, boxes_only: bool
) -> Iterator[tuple[int, Place]]:
    """Yield number and place of every value in a section of COCO's json that is not of its form."""
    name = getattr(names, kind)
    fields = _FIELDS[kind] | ({} if boxes_only else _DETECTRON2S[kind])
    for number, entry in enumerate(entries):
        if type(entry) is not dict:
            yield number, Place(name(number), entry, "expected an object with keys")
            continue
        for key, (allows, expected, default) in fields.items():
            value = entry.get(key, default)
            if not allows(value):
                note = expected if key in entry else f"missing, {expected}"
                owner = {field: entry.get(source) for field, source in _OWNERS[kind].items()}
                yield number, Place(f"{name(number)}.{key}", value, note, **owner)
