"""Checks of boxes and areas, all at once."""

from collections.abc import Iterator

import numpy as np

from focal_retina.data.checks.problems import Place, Problem
from focal_retina.data.checks.table import Table, repeats

# Longest side of an empty box, pixels, as in Detectron2's ``filter_empty_instances``.
EMPTY = 1e-5
# Pixels that a box of a good dataset may reach over the border, by rounding.
_TOLERANCE = 1.0
# Share of boxes within a corner's pixel from which on they are taken for relative, not for specks.
_NORMALIZED = 0.01

Found = Iterator[tuple[Problem, list[Place]]]


def check_boxes(table: Table) -> Found:
    """Yield the places of wrong boxes; of the problems of its form, a box has at most one."""
    boxes = table.annotations.boxes
    start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    finite = np.isfinite(boxes).all(axis=1)
    negative = finite & (boxes[:, 2:] < 0).any(axis=1)
    empty = finite & ~negative & (boxes[:, 2:] <= EMPTY).any(axis=1)
    usable = finite & ~negative & ~empty
    outside = usable & (sides_inside(table) <= EMPTY).any(axis=1)
    normalized = _normalized(table, usable)
    across = ((start < -_TOLERANCE) | (end > _image_sizes(table) + _TOLERANCE)).any(axis=1)
    for problem, mask in (
        (Problem.BOX_NOT_FINITE, ~finite),
        (Problem.BOX_NORMALIZED, normalized),
        (Problem.BOX_NEGATIVE, negative),
        (Problem.BOX_EMPTY, empty),
        (Problem.BOX_OUTSIDE, outside),
        (Problem.BOX_ACROSS_BORDER, usable & ~outside & ~normalized & across),
    ):
        found = np.flatnonzero(mask).tolist()
        is_hinted = problem in (Problem.BOX_NEGATIVE, Problem.BOX_ACROSS_BORDER)
        note = table.box_hint if is_hinted else ""
        yield problem, [table.annotation_place(i, "bbox", boxes[i].tolist(), note) for i in found]
    yield Problem.ANNOTATION_REPEATED, _repeated_boxes(table)


def _normalized(table: Table, usable: np.ndarray) -> np.ndarray:
    """Return which boxes seem to be fractions of the image, (A,), bool.

    Such boxes have no number above 1, be they of corners or of a centre. Where they are rare, they
    are what they say: specks.
    """
    boxes = table.annotations.boxes
    start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    # VOC's pixels start at 1: a fraction becomes a start between -1 and 0.
    small = (start >= -1).all(axis=1) & ((boxes <= 1).all(axis=1) | (end <= 1).all(axis=1))
    found = usable & small & (_image_sizes(table) > 2).all(axis=1)
    broken = found & (boxes % 1 != 0).any(axis=1)
    is_common = broken.sum() >= _NORMALIZED * len(boxes) or found.sum() > len(boxes) / 2
    return found & is_common


def check_areas(table: Table) -> Found:
    annotations = table.annotations
    sides, areas = annotations.boxes[:, 2:], annotations.areas
    # Rounding, and conventions that count a side as a pixel more or less.
    low, high = np.maximum(sides - 1, 0).prod(axis=1), (sides + 1).prod(axis=1)
    wrong = ~(areas > 0) | (areas > high) | (~annotations.has_shape & (areas < low))
    wrong &= (
        ~annotations.lacks_area
        & np.isfinite(annotations.boxes).all(axis=1)
        & (sides > EMPTY).all(axis=1)
    )
    yield Problem.AREA_DIFFERS, table.annotation_places(wrong, "area", areas.tolist())


def check_resized(table: Table, resize: tuple[int, int]) -> Found:
    sides, sizes = sides_inside(table), _image_sizes(table)
    shortest, longest = resize
    scales = np.minimum(shortest / sizes.min(axis=1), longest / sizes.max(axis=1))
    resized = sides * (scales if shortest else np.ones_like(scales))[:, None]
    tiny = np.isfinite(sizes).all(axis=1) & (sides > EMPTY).all(axis=1) & (resized < 1).any(axis=1)
    found = [
        table.annotation_place(i, "bbox", None, "{:.2f} x {:.2f} pixels there".format(*resized[i]))
        for i in np.flatnonzero(tiny).tolist()
    ]
    yield Problem.BOX_TINY, found


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
