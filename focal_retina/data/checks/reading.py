"""Read COCO json into a table."""

import json
import math
from collections.abc import Callable, Iterator

import numpy as np
from detectron2.utils.file_io import PathManager

from focal_retina.data.checks.fields import Names, class_name, is_id, malformed_entries
from focal_retina.data.checks.problems import Place
from focal_retina.data.checks.table import Annotations, Categories, Images, Table
from focal_retina.data.garbage_collection import paused_gc
from focal_retina.errors import UserError

_BOX_HINT = "is it xyxy instead of xywh?"


def read_table(
    json_file: str, image_root: str | None = None, source: str = "", boxes_only: bool = False
) -> Table:
    """Return the table of a file; raise a UserError if there is none or it cannot be opened.

    Args:
        boxes_only: leave segmentations and keypoints alone, whatever they are.
    """
    if not PathManager.isfile(json_file):
        raise UserError(f"the COCO json {json_file} does not exist")
    content, malformed = {}, None
    with paused_gc():
        try:
            with PathManager.open(json_file, "rb") as file:
                content = json.loads(_text(file.read()))
        except OSError as error:
            raise UserError(f"the COCO json {json_file} cannot be read: {error}") from error
        except (RecursionError, ValueError) as error:
            malformed = [Place("the file", None, str(error))]
        table = table_of(content, malformed, boxes_only)
    return table._replace(source=source or json_file, image_root=image_root, box_hint=_BOX_HINT)


def _text(content: bytes) -> str:
    """Decode UTF-8 without a byte order mark; evaluation and other programs refuse the rest too."""
    encoding = json.detect_encoding(content)
    if encoding != "utf-8":
        name = "UTF-8 with a byte order mark" if encoding == "utf-8-sig" else encoding.upper()
        raise ValueError(f"it is {name}; save it as UTF-8 without a byte order mark")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        note = f"byte {error.start} is not UTF-8, the encoding of json; save it as UTF-8"
        raise ValueError(note) from error


def table_of(
    content: object, malformed: list[Place] | None = None, boxes_only: bool = False
) -> Table:
    """Return the table of a json's content, or of why there is none, without source and folder."""
    places = malformed or list(_missing_sections(content))
    sections = {kind: [] if places else content.get(kind, []) for kind in Names._fields}
    return table_of_sections(sections, Names(), places, boxes_only)


def _missing_sections(content: object) -> Iterator[Place]:
    if type(content) is not dict:
        yield Place("the json", content, "expected an object with images, categories, annotations")
        return
    for kind, default in (("images", None), ("categories", None), ("annotations", [])):
        found = content.get(kind, default)
        if type(found) is not list or (not found and kind != "annotations"):
            at_least = "" if kind == "annotations" else ", at least one"
            yield Place(kind, found, f"expected a list of {kind}{at_least}")


def table_of_sections(
    sections: dict[str, list], names: Names, malformed: list[Place], boxes_only: bool = True
) -> Table:
    """Return a table without source and image folder.

    Args:
        sections: the lists "images", "categories" and "annotations" of COCO's json.
        malformed: places where the sections themselves are wrong.
        boxes_only: leave segmentations and keypoints alone.
    """
    places, bad = list(malformed), set()
    for kind, entries in sections.items():
        for number, place in malformed_entries(kind, entries, names, boxes_only):
            bad.add((kind, number))
            places.append(place)
    rows = {kind: [x if type(x) is dict else {} for x in sections[kind]] for kind in sections}
    for kind in ("images", "categories"):
        places += _mixed_ids(rows[kind], getattr(names, kind))
    sides = [[_number(x.get(key)) for key in ("width", "height")] for x in rows["images"]]
    images = Images(
        ids=_ids(rows["images"]),
        file_names=[x if type(x := row.get("file_name")) is str else "" for row in rows["images"]],
        sizes=np.array(sides, dtype=np.float64).reshape(-1, 2),
    )
    names_of_classes = [class_name(x.get("name")) for x in rows["categories"]]
    categories = Categories(_ids(rows["categories"]), names_of_classes)
    good = [(i, x) for i, x in enumerate(rows["annotations"]) if ("annotations", i) not in bad]
    annotations = _annotations(good, images, categories, boxes_only)
    files = dict(zip(images.ids, images.file_names, strict=True))
    for i, place in enumerate(places):  # those of annotations lack the file of their image
        if place.file_name is None and is_id(place.image_id):
            places[i] = place._replace(file_name=files.get(place.image_id))
    return Table("", None, images, categories, annotations, places, names)


def _mixed_ids(entries: list, name: Callable[[int], str]) -> Iterator[Place]:
    """Yield the ids that cannot be ordered with the first one; their order numbers the classes."""
    ids = [(i, x) for i, x in enumerate(_ids(entries)) if x is not None]
    for i, x in ids[1:]:
        if (type(x) is str) != (type(ids[0][1]) is str):
            note = "expected a number, or a string, as the first id is"
            yield Place(f"{name(i)}.id", x, note, None, x, entries[i].get("file_name"))


def _ids(entries: list[dict]) -> list:
    return [entry["id"] if is_id(entry.get("id")) else None for entry in entries]


def _number(value: object) -> float:
    return value if type(value) in (int, float) and abs(value) < 2**31 else math.nan


def _annotations(
    numbered: list[tuple[int, dict]], images: Images, categories: Categories, boxes_only: bool
) -> Annotations:
    entries = [entry for _, entry in numbered]
    ids, image_ids, category_ids, boxes = (
        [entry[key] for entry in entries] for key in ("id", "image_id", "category_id", "bbox")
    )
    return Annotations(
        numbers=np.array([number for number, _ in numbered], dtype=np.int64),
        ids=ids,
        image_ids=image_ids,
        category_ids=category_ids,
        image_idxs=_positions(image_ids, images.ids),
        category_idxs=_positions(category_ids, categories.ids),
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        is_whole=np.array([{*map(type, box)} == {int} for box in boxes], dtype=bool),
        areas=np.array([_area(entry) for entry in entries], dtype=np.float64),
        has_shape=np.array([bool(entry.get("segmentation")) for entry in entries], dtype=bool),
        is_crowd=np.array([entry.get("iscrowd", 0) for entry in entries], dtype=bool),
        lacks_crowd_flag=np.array(["iscrowd" not in entry for entry in entries], dtype=bool),
        lacks_area=np.array(["area" not in entry for entry in entries], dtype=bool),
        lacks_polygons=np.array(
            [not boxes_only and _lacks_polygons(entry) for entry in entries], dtype=bool
        ),
    )


def _positions(ids: list, known: list) -> np.ndarray:
    """Return the last position of each id among the known ones; -1 where it is unknown."""
    position = {x: i for i, x in enumerate(known) if x is not None}
    return np.array([position.get(x, -1) for x in ids], dtype=np.int64)


def _area(entry: dict) -> float:
    """Return an annotation's area, NaN where it is missing; numpy takes no larger integers."""
    return max(min(entry.get("area", math.nan), 1e300), -1e300)


def _lacks_polygons(entry: dict) -> bool:
    polygons = entry.get("segmentation")
    if type(polygons) is not list or not polygons:
        return False
    return not any(len(polygon) % 2 == 0 and len(polygon) >= 6 for polygon in polygons)
