"""Read COCO json into a table."""

import json
import math
from collections.abc import Callable, Iterator

import numpy as np
from detectron2.utils.file_io import PathManager

from focal_retina.data.checks.fields import Names, is_id, malformed_entries
from focal_retina.data.checks.problems import Place
from focal_retina.data.checks.table import Annotations, Categories, Images, Table
from focal_retina.data.garbage_collection import paused_gc
from focal_retina.errors import UserError


def read_table(json_file: str, image_root: str | None = None, source: str = "") -> Table:
    """Return the table of a file; raise a UserError if there is none or it cannot be opened."""
    if not PathManager.isfile(json_file):
        raise UserError(f"the COCO json {json_file} does not exist")
    malformed = None
    with paused_gc():
        try:
            with open(PathManager.get_local_path(json_file), encoding="utf-8") as file:
                content = json.load(file)
        except OSError as error:
            raise UserError(f"the COCO json {json_file} cannot be read: {error}") from error
        except (RecursionError, ValueError) as error:
            content, malformed = {}, [Place("the file", None, str(error))]
        table = table_of(content, malformed)
    return table._replace(source=source or json_file, image_root=image_root)


def table_of(content: object, malformed: list[Place] | None = None) -> Table:
    """Return the table of a json's content, or of why there is none, without source and folder."""
    places = malformed or list(_missing_sections(content))
    sections = {kind: [] if places else content.get(kind, []) for kind in Names._fields}
    return table_of_sections(sections, Names(), places)


def _missing_sections(content: object) -> Iterator[Place]:
    if type(content) is not dict:
        yield Place("the json", content, "expected an object with images, categories, annotations")
        return
    for kind, default in (("images", None), ("categories", None), ("annotations", [])):
        found = content.get(kind, default)
        if type(found) is not list or (not found and kind != "annotations"):
            at_least = "" if kind == "annotations" else ", at least one"
            yield Place(kind, found, f"expected a list of {kind}{at_least}")


def table_of_sections(sections: dict[str, list], names: Names, malformed: list[Place]) -> Table:
    """Return a table without source and image folder.

    Args:
        sections: the lists "images", "categories" and "annotations" of COCO's json.
        malformed: places where the sections themselves are wrong.
    """
    places, bad = list(malformed), set()
    for kind, entries in sections.items():
        for number, place in malformed_entries(kind, entries, names):
            bad.add((kind, number))
            places.append(place)
    rows = {kind: [x if type(x) is dict else {} for x in sections[kind]] for kind in sections}
    for kind in ("images", "categories"):
        places += _mixed_ids(rows[kind], getattr(names, kind))
    sides = [[_number(x.get(key)) for key in ("width", "height")] for x in rows["images"]]
    images = Images(
        ids=_ids(rows["images"]),
        file_names=_texts(rows["images"], "file_name"),
        sizes=np.array(sides, dtype=np.float64).reshape(-1, 2),
    )
    categories = Categories(_ids(rows["categories"]), _texts(rows["categories"], "name"))
    good = [(i, x) for i, x in enumerate(rows["annotations"]) if ("annotations", i) not in bad]
    annotations = _annotations(good, images, categories)
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


def _texts(entries: list[dict], key: str) -> list[str]:
    return [entry.get(key) if type(entry.get(key)) is str else "" for entry in entries]


def _number(value: object) -> float:
    return value if type(value) in (int, float) and abs(value) < 2**31 else math.nan


def _annotations(
    numbered: list[tuple[int, dict]], images: Images, categories: Categories
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
        is_crowd=np.array([entry.get("iscrowd", 0) for entry in entries], dtype=bool),
        lacks_crowd_flag=np.array(["iscrowd" not in entry for entry in entries], dtype=bool),
        lacks_area=np.array(["area" not in entry for entry in entries], dtype=bool),
        lacks_polygons=np.array([_lacks_polygons(entry) for entry in entries], dtype=bool),
    )


def _positions(ids: list, known: list) -> np.ndarray:
    """Return the last position of each id among the known ones; -1 where it is unknown."""
    position = {x: i for i, x in enumerate(known) if x is not None}
    return np.array([position.get(x, -1) for x in ids], dtype=np.int64)


def _lacks_polygons(entry: dict) -> bool:
    polygons = entry.get("segmentation")
    if type(polygons) is not list or not polygons:
        return False
    return not any(len(polygon) % 2 == 0 and len(polygon) >= 6 for polygon in polygons)
