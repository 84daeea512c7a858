"""The columns of a table, from the entries of COCO json."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from focal_retina.data.checks.fields import Names, is_id, malformed_entries
from focal_retina.data.checks.findings import Place
from focal_retina.data.checks.table import Annotations, Categories, Images, Table


def table_of_sections(
    sections: dict[str, list],
    names: Names,
    malformed: list[Place],
    sizes_are_optional: bool = False,
) -> Table:
    """Return a table, still without source and image folder.

    Args:
        sections: the lists "images", "categories" and "annotations" of COCO's json.
        names: how to name their entries.
        malformed: what is wrong with the sections themselves.
        sizes_are_optional: whether an image need not state its width and height.
    """
    bad: dict[str, set[int]] = {kind: set() for kind in sections}
    places = list(malformed)
    for kind, entries in sections.items():
        for number, place in malformed_entries(kind, entries, names, sizes_are_optional):
            bad[kind].add(number)
            places.append(place)
    for kind in ("images", "categories"):
        places += _mixed_ids(sections[kind], getattr(names, kind))
    images = _images(sections["images"])
    categories = _categories(sections["categories"])
    good = [(i, x) for i, x in enumerate(sections["annotations"]) if i not in bad["annotations"]]
    annotations = _annotations(good, images, categories)
    files = dict(zip(images.ids, images.file_names, strict=True))
    places = [_with_file_name(place, files) for place in places]
    return Table("", None, images, categories, annotations, places, names)


def _with_file_name(place: Place, files: dict[object, str]) -> Place:
    """Return an annotation's place with the file of its image, if that is known."""
    if place.file_name is not None or not is_id(place.image_id):
        return place
    return place._replace(file_name=files.get(place.image_id))


def _mixed_ids(entries: list, name: Callable[[int], str]) -> Iterator[Place]:
    """Yield ids that cannot be ordered with the first, which is what numbers the classes."""
    ids = [(i, x) for i, x in enumerate(_ids(entries)) if x is not None]
    for i, x in ids[1:]:
        if (type(x) is str) != (type(ids[0][1]) is str):
            note = "expected a number, or a string, as the first id is"
            yield Place(f"{name(i)}.id", x, note, None, x, entries[i].get("file_name"))


def _images(entries: list) -> Images:
    entries = [entry if type(entry) is dict else {} for entry in entries]
    sides = [[_number(entry.get(key)) for key in ("width", "height")] for entry in entries]
    return Images(
        ids=_ids(entries),
        file_names=_texts(entries, "file_name"),
        sizes=np.array(sides, dtype=np.float64).reshape(-1, 2),
    )


def _categories(entries: list) -> Categories:
    entries = [entry if type(entry) is dict else {} for entry in entries]
    return Categories(_ids(entries), _texts(entries, "name"))


def _ids(entries: list) -> list:
    ids = [entry.get("id") if type(entry) is dict else None for entry in entries]
    return [x if is_id(x) else None for x in ids]


def _texts(entries: list[dict], key: str) -> list[str]:
    return [entry.get(key) if type(entry.get(key)) is str else "" for entry in entries]


def _number(value: object) -> float:
    return value if type(value) in (int, float) and abs(value) < 2**31 else math.nan


def _annotations(
    numbered: list[tuple[int, dict]], images: Images, categories: Categories
) -> Annotations:
    entries = [entry for _, entry in numbered]
    image_ids = [entry["image_id"] for entry in entries]
    category_ids = [entry["category_id"] for entry in entries]
    boxes = [entry["bbox"] for entry in entries]
    return Annotations(
        numbers=np.array([number for number, _ in numbered], dtype=np.int64),
        ids=[entry["id"] for entry in entries],
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
    """Return where each id is among the known ones, at last; -1 where it is not."""
    position = {x: i for i, x in enumerate(known) if x is not None}
    return np.array([position.get(x, -1) for x in ids], dtype=np.int64)


def _lacks_polygons(entry: dict) -> bool:
    polygons = entry.get("segmentation")
    if type(polygons) is not list or not polygons:
        return False
    return not any(len(polygon) % 2 == 0 and len(polygon) >= 6 for polygon in polygons)
