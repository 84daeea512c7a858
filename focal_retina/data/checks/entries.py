"""Checks of the entries of a json, without its pictures."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from focal_retina.data.checks.problems import Finding, Place, Problem, findings
from focal_retina.data.checks.table import Table, repeats

# Longest side of an empty box, pixels, as in Detectron2's ``filter_empty_instances``.
EMPTY = 1e-5
# Pixels that a box of a good dataset may reach over the border, by rounding.
_TOLERANCE = 1.0

Found = Iterator[tuple[Problem, list[Place]]]


def check_entries(table: Table) -> list[Finding]:
    """Return what is wrong with a table's entries, errors first."""
    found = [(Problem.MALFORMED, table.malformed)]
    for check in (_repeated_values, _ids, _references, _boxes, _unused):
        found += check(table)
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
    unknown = (found.category_idxs < 0) & (found.image_idxs >= 0)
    yield Problem.CATEGORY_UNKNOWN, places(unknown, "category_id", found.category_ids)
    yield Problem.IMAGE_UNKNOWN, places(found.image_idxs < 0, "image_id", found.image_ids)
    yield Problem.CROWD, places(found.is_crowd, "iscrowd")
    yield Problem.POLYGON_INVALID, places(found.lacks_polygons, "segmentation")
    missing = places(found.lacks_area, "area") + places(found.lacks_crowd_flag, "iscrowd")
    yield Problem.EVALUATION_KEY_MISSING, missing


def _boxes(table: Table) -> Found:
    """Yield the places of wrong boxes; of the problems of its form, a box has at most one."""
    boxes = table.annotations.boxes
    start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    finite = np.isfinite(boxes).all(axis=1)
    negative = finite & (boxes[:, 2:] < 0).any(axis=1)
    empty = finite & ~negative & (boxes[:, 2:] <= EMPTY).any(axis=1)
    usable = finite & ~negative & ~empty
    outside = usable & (sides_inside(table) <= EMPTY).any(axis=1)
    across = ((start < -_TOLERANCE) | (end > _image_sizes(table) + _TOLERANCE)).any(axis=1)
    for problem, mask in (
        (Problem.BOX_NOT_FINITE, ~finite),
        (Problem.BOX_NEGATIVE, negative),
        (Problem.BOX_EMPTY, empty),
        (Problem.BOX_OUTSIDE, outside),
        (Problem.BOX_ACROSS_BORDER, usable & ~outside & across),
    ):
        found = np.flatnonzero(mask).tolist()
        yield problem, [table.annotation_place(i, "bbox", boxes[i].tolist()) for i in found]
    yield Problem.ANNOTATION_REPEATED, _repeated_boxes(table)


def sides_inside(table: Table) -> np.ndarray:
    """Return width and height of what training uses of each box, (A, 2), float32, pixels.

    Detectron2's mapper orders the corners of a box of negative size, cuts boxes at the border of
    their image, and rounds to float32. A box with NaN has NaN.
    """
    boxes, sizes = table.annotations.boxes, _image_sizes(table)
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        corners = np.stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
        start, end = np.clip(np.sort(corners, axis=0), 0, sizes).astype(np.float32)
        return end - start


def _image_sizes(table: Table) -> np.ndarray:
    """Return width and height of each annotation's image, (A, 2); infinite if unknown."""
    rows = table.annotations.image_idxs
    sizes = np.full((len(rows), 2), np.inf)
    sizes[rows >= 0] = table.images.sizes[rows[rows >= 0]]
    return np.where(np.isnan(sizes), np.inf, sizes)


def _repeated_boxes(table: Table) -> list[Place]:
    """Return the places of boxes that an earlier annotation of the same image and class has."""
    annotations, place = table.annotations, table.annotation_place
    columns = annotations.image_idxs, annotations.category_idxs, *annotations.boxes.T
    keys = zip(*(column.tolist() for column in columns), strict=True)
    return [
        place(i, "bbox", annotations.boxes[i].tolist(), f"as {place(j, 'bbox').path}")
        for i, j in repeats(key if key[0] >= 0 else None for key in keys)
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


class Drops(NamedTuple):
    annotations: int
    dropped: dict[str, int]  # the first reason to drop annotations -> how many
    images: int
    images_empty: int  # that the filter of images without objects drops

    @property
    def used(self) -> int:
        """The number of annotations that training uses."""
        return self.annotations - sum(self.dropped.values())

    def __str__(self) -> str:
        unused = ", ".join(f"{count:,} {why}" for why, count in self.dropped.items() if count)
        text = f"{self.used:,} of {self.annotations:,} annotations"
        text += f" (not {unused})" if unused else ""
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
