"""Checks of what a json says, without its pictures."""

from collections.abc import Iterator

import numpy as np

from focal_retina.data.checks import findings as rules
from focal_retina.data.checks.boxes import check_boxes
from focal_retina.data.checks.findings import Finding, Place, Rule
from focal_retina.data.checks.table import Table, repeats

Found = Iterator[tuple[Rule, list[Place]]]


def check_entries(table: Table) -> list[Finding]:
    """Return what is wrong with a table's entries, errors first."""
    found = [(rules.MALFORMED, table.malformed)]
    for check in (_repeated_values, _ids, _references, check_boxes, _unused):
        found += check(table)
    kept = [Finding(rule, table.source, places) for rule, places in found if places]
    return sorted(kept, key=lambda finding: not finding.rule.is_error)


def _repeated_values(table: Table) -> Found:
    images, categories, annotations = table.images, table.categories, table.annotations
    # The exception that Detectron2's loader makes, for COCO 2014's minival.
    annotation_ids = [] if "minival" in table.source else annotations.ids
    for rule, place, key, values in (
        (rules.IMAGE_ID_REPEATED, table.image_place, "id", images.ids),
        (rules.FILE_NAME_REPEATED, table.image_place, "file_name", images.file_names),
        (rules.CATEGORY_ID_REPEATED, table.category_place, "id", categories.ids),
        (rules.CATEGORY_NAME_REPEATED, table.category_place, "name", categories.names),
        (rules.ANNOTATION_ID_REPEATED, table.annotation_place, "id", annotation_ids),
    ):
        repeated = repeats(None if value == "" else value for value in values)
        yield rule, [place(i, key, values[i], f"as {place(j, key).path}") for i, j in repeated]


def _ids(table: Table) -> Found:
    places = []
    number = (int, float, type(None))
    for place, key, ids, allowed in (
        (table.image_place, "id", table.images.ids, number),
        (table.category_place, "id", table.categories.ids, number),
        (table.annotation_place, "id", table.annotations.ids, (int,)),
        (table.annotation_place, "image_id", table.annotations.image_ids, number),
    ):
        places += [place(i, key, x) for i, x in enumerate(ids) if type(x) not in allowed]
    yield rules.ID_NOT_INTEGER, places
    ids = enumerate(table.annotations.ids)
    below = [i for i, x in ids if type(x) is int and x < 1]
    yield (
        rules.ANNOTATION_ID_BELOW_1,
        [table.annotation_place(i, "id", table.annotations.ids[i]) for i in below],
    )


def _references(table: Table) -> Found:
    found, places = table.annotations, table.annotation_places
    unknown = (found.category_idxs < 0) & (found.image_idxs >= 0)
    yield rules.CATEGORY_UNKNOWN, places(unknown, "category_id", found.category_ids)
    yield rules.IMAGE_UNKNOWN, places(found.image_idxs < 0, "image_id", found.image_ids)
    yield rules.CROWD, places(found.is_crowd, "iscrowd")
    yield rules.POLYGON_INVALID, places(found.lacks_polygons, "segmentation")
    missing = places(found.lacks_area, "area") + places(found.lacks_crowd_flag, "iscrowd")
    yield rules.EVALUATION_KEY_MISSING, missing


def _unused(table: Table) -> Found:
    annotations = table.annotations
    used = ~annotations.is_crowd & (annotations.image_idxs >= 0)
    names = table.categories.names
    images = np.setdiff1d(np.arange(len(table.images.ids)), annotations.image_idxs[used])
    yield rules.IMAGE_EMPTY, [table.image_place(i, "id") for i in images.tolist()]
    classes = np.setdiff1d(np.arange(len(names)), annotations.category_idxs[used])
    yield (
        rules.CATEGORY_UNUSED,
        [table.category_place(i, "name", names[i]) for i in classes.tolist()],
    )
