"""Checks of the entries of a json, without its pictures."""

import unicodedata
from typing import NamedTuple

import numpy as np

from focal_retina.data.checks.boxes import (
    EMPTY,
    Found,
    check_areas,
    check_boxes,
    check_resized,
    sides_inside,
)
from focal_retina.data.checks.problems import Finding, Place, Problem, findings
from focal_retina.data.checks.table import Table, repeats


def check_entries(table: Table, resize: tuple[int, int] | None = None) -> list[Finding]:
    """Return what is wrong with a table's entries, errors first.

    Args:
        resize: the smallest size that training resizes images to: their shorter side, and the
            limit of the longer one, pixels. None for a set that is not trained on.
    """
    found = [(Problem.MALFORMED, table.malformed)]
    checks = _repeated_values, _alike_names, _ids, _references, check_boxes, check_areas, _unused
    for check in (*checks, _nothing_left):
        found += check(table)
    if resize:
        found += check_resized(table, resize)
    return findings(table.source, found)


def _repeated_values(table: Table) -> Found:
    images, categories, annotations = table.images, table.categories, table.annotations
    # Detectron2's loader makes this exception for COCO 2014's minival.
    annotation_ids = [] if "minival" in table.source else annotations.ids
    for problem, place, key, values in (
        (Problem.IMAGE_ID_REPEATED, table.image_place, "id", images.ids),
        (Problem.FILE_NAME_REPEATED, table.image_place, "file_name", images.file_names),
        (Problem.CATEGORY_ID_REPEATED, table.category_place, "id", categories.ids),
        (Problem.CATEGORY_NAME_REPEATED, table.category_place, "name", categories.names),
        (Problem.ANNOTATION_ID_REPEATED, table.annotation_place, "id", annotation_ids),
    ):
        is_id = key == "id"  # a text may be one, empty too
        repeated = repeats(x if is_id or x != "" else None for x in values)
        yield problem, [place(i, key, values[i], f"as {place(j, key).path}") for i, j in repeated]


def _alike_names(table: Table) -> Found:
    names = table.categories.names
    spelt = (" ".join(unicodedata.normalize("NFKC", x).casefold().split()) for x in names)
    alike = [(i, names[j]) for i, j in repeats(x or None for x in spelt) if names[i] != names[j]]
    places = [table.category_place(i, "name", names[i], f"there is {x!r}, too") for i, x in alike]
    yield Problem.CATEGORY_NAMES_ALIKE, places


def _ids(table: Table) -> Found:
    places = []
    number = (int, float, type(None))  # None: malformed, which is another problem
    for place, key, ids, allowed in (
        (table.image_place, "id", table.images.ids, number),
        (table.category_place, "id", table.categories.ids, number),
        (table.annotation_place, "id", table.annotations.ids, (int,)),
        (table.annotation_place, "image_id", table.annotations.image_ids, number),
    ):
        places += [place(i, key, x) for i, x in enumerate(ids) if type(x) not in allowed]
    yield Problem.ID_NOT_INTEGER, places
    below = np.array([type(x) is int and x < 1 for x in table.annotations.ids], dtype=bool)
    places = table.annotation_places(below, "id", table.annotations.ids)
    yield Problem.ANNOTATION_ID_BELOW_1, places


def _references(table: Table) -> Found:
    found, places = table.annotations, table.annotation_places
    yield Problem.CATEGORY_UNKNOWN, unknown_categories(table)
    known, missing = table.images.ids, found.image_idxs < 0
    yield Problem.IMAGE_UNKNOWN, _unknown(table, missing, "image_id", found.image_ids, known)
    yield Problem.CROWD, places(found.is_crowd, "iscrowd")
    yield Problem.POLYGON_INVALID, places(found.lacks_polygons, "segmentation")
    missing = places(found.lacks_area, "area") + places(found.lacks_crowd_flag, "iscrowd")
    yield Problem.EVALUATION_KEY_MISSING, missing


def unknown_categories(table: Table) -> list[Place]:
    """Return the places of annotations of known images whose category is unknown."""
    found, known = table.annotations, table.categories.ids
    mask = (found.category_idxs < 0) & (found.image_idxs >= 0)
    return _unknown(table, mask, "category_id", found.category_ids, known)


def _unknown(table: Table, mask: np.ndarray, key: str, values: list, known: list) -> list[Place]:
    """Return the places of unknown ids; a note tells that one is there as number or as text."""
    twins = {str(x): f"{x!r} is there: a text is no number" for x in known} if mask.any() else {}
    return [
        table.annotation_place(i, key, values[i], twins.get(str(values[i]), ""))
        for i in np.flatnonzero(mask).tolist()
    ]


def _unused(table: Table) -> Found:
    annotations = table.annotations
    used = ~annotations.is_crowd & (annotations.image_idxs >= 0)
    names = table.categories.names
    images = np.setdiff1d(np.arange(len(table.images.ids)), annotations.image_idxs[used])
    yield Problem.IMAGE_EMPTY, [table.image_place(i, "id") for i in images.tolist()]
    classes = np.setdiff1d(np.arange(len(names)), annotations.category_idxs[used])
    places = [table.category_place(i, "name", names[i]) for i in classes.tolist()]
    yield Problem.CATEGORY_UNUSED, places


def _nothing_left(table: Table) -> Found:
    drops = count_drops(table, False)
    if drops.annotations and not drops.used:
        note = f"none of {drops.annotations:,} is left: {drops.unused}"
        yield Problem.NO_OBJECT_LEFT, [Place("annotations", None, note)]


class Drops(NamedTuple):
    annotations: int
    dropped: dict[str, int]  # the first reason to drop annotations -> how many
    images: int
    images_empty: int  # that the filter of images without objects drops

    @property
    def used(self) -> int:
        """The number of annotations that training uses."""
        return self.annotations - sum(self.dropped.values())

    @property
    def unused(self) -> str:
        return ", ".join(f"{count:,} {why}" for why, count in self.dropped.items() if count)

    def __str__(self) -> str:
        text = f"{self.used:,} of {self.annotations:,} annotations"
        text += f" (not {self.unused})" if self.unused else ""
        text += f" and {self.images - self.images_empty:,} of {self.images:,} images"
        if self.images_empty:
            text += f" (not {self.images_empty:,} without objects, as "
            text += "DATALOADER.FILTER_EMPTY_ANNOTATIONS says)"
        return text


def count_drops(table: Table, filter_empty: bool) -> Drops:
    """Count what Detectron2's loader, filter of empty images and mapper drop, before crops."""
    annotations = table.annotations
    reasons = {
        "of unknown images": annotations.image_idxs < 0,
        "without a valid polygon": annotations.lacks_polygons,
        "crowds": annotations.is_crowd,
        "with boxes of no area inside the image": ~(sides_inside(table) > EMPTY).all(axis=1),
    }
    left, dropped = np.ones(len(annotations.ids), dtype=bool), {}
    for reason, applies in reasons.items():
        dropped[reason] = int((left & applies).sum())
        left &= ~applies
    # The filter of images comes before the mapper, which looks at boxes.
    *seen_by_filter, _ = reasons.values()
    objects = ~np.any(seen_by_filter, axis=0)
    num_images = len(table.images.ids)
    empty = num_images - len(np.unique(annotations.image_idxs[objects]))
    return Drops(len(left), dropped, num_images, empty if filter_empty else 0)
