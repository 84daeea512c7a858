"""Checks of the boxes that a json states."""

from collections.abc import Iterator

import numpy as np

from focal_retina.data.checks import findings as rules
from focal_retina.data.checks.findings import Place, Rule
from focal_retina.data.checks.table import Table, repeats

# Sides up to this count as empty, in pixels: Detectron2's ``filter_empty_instances``.
EMPTY = 1e-5
# Rounding lets boxes of good datasets end a little outside the image, in pixels.
_TOLERANCE = 1.0


def check_boxes(table: Table) -> Iterator[tuple[Rule, list[Place]]]:
    """Yield the places of boxes that break a rule; no box breaks more than one of these."""
    boxes = table.annotations.boxes
    start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    finite = np.isfinite(boxes).all(axis=1)
    negative = finite & (boxes[:, 2:] < 0).any(axis=1)
    empty = finite & ~negative & (boxes[:, 2:] <= EMPTY).any(axis=1)
    usable = finite & ~negative & ~empty
    outside = usable & (sides_inside(table) <= EMPTY).any(axis=1)
    across = ((start < -_TOLERANCE) | (end > _image_sizes(table) + _TOLERANCE)).any(axis=1)
    for rule, mask in (
        (rules.BOX_NOT_FINITE, ~finite),
        (rules.BOX_NEGATIVE, negative),
        (rules.BOX_EMPTY, empty),
        (rules.BOX_OUTSIDE, outside),
        (rules.BOX_ACROSS_BORDER, usable & ~outside & across),
    ):
        found = np.flatnonzero(mask).tolist()
        yield rule, [table.annotation_place(i, "bbox", boxes[i].tolist()) for i in found]
    yield rules.ANNOTATION_REPEATED, _repeated(table)


def sides_inside(table: Table) -> np.ndarray:
    """Return width and height of what training uses of each box, (A, 2), float32, pixels.

    Detectron2's mapper orders the corners of a box of negative size, cuts boxes at their image, and
    rounds to float32. NaN where the box has NaN.
    """
    boxes, sizes = table.annotations.boxes, _image_sizes(table)
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        corners = np.stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
        start, end = np.clip(np.sort(corners, axis=0), 0, sizes).astype(np.float32)
        return end - start


def _image_sizes(table: Table) -> np.ndarray:
    """Return the size of each annotation's image, (A, 2); infinite where it is not known."""
    rows = table.annotations.image_idxs
    sizes = np.full((len(rows), 2), np.inf)
    sizes[rows >= 0] = table.images.sizes[rows[rows >= 0]]
    return np.where(np.isnan(sizes), np.inf, sizes)


def _repeated(table: Table) -> list[Place]:
    """Return the places of boxes that the same class has in the same image before."""
    annotations, place = table.annotations, table.annotation_place
    columns = annotations.image_idxs, annotations.category_idxs, *annotations.boxes.T
    keys = zip(*(column.tolist() for column in columns), strict=True)
    return [
        place(i, "bbox", annotations.boxes[i].tolist(), f"as {place(j, 'bbox').path}")
        for i, j in repeats(key if key[0] >= 0 else None for key in keys)
    ]
