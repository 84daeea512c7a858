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
    for check in (_check_ids, _check_names, _check_annotations, check_boxes, _check_usage):
        found += check(table)
    kept = [Finding(rule, table.source, places) for rule, places in found if places]
    return sorted(kept, key=lambda finding: not finding.rule.is_error)


def _check_ids(table: Table) -> Found:
    images, categories, annotations = table.images, table.categories, table.annotations
    image, category, annotation = table.image_place, table.category_place, table.annotation_place
    for rule, place, ids, name in (
        (rules.IMAGE_ID_REPEATED, image, images.ids, table.names.images),
        (rules.CATEGORY_ID_REPEATED, category, categories.ids, table.names.categories),
        (rules.ANNOTATION_ID_REPEATED, annotation, annotations.ids, _annotation_name(table)),
    ):
        # The exception that Detectron2's loader makes, for COCO 2014's minival.
        if rule is not rules.ANNOTATION_ID_REPEATED or "minival" not in table.source:
            yield rule, [place(i, "id", ids[i], f"as {name(j)}") for i, j in repeats(ids)]
    no_integers = [image(i, "id", x) for i, x in enumerate(images.ids) if type(x) is str]
    no_integers += [category(i, "id", x) for i, x in enumerate(categories.ids) if type(x) is str]
    ids = enumerate(annotations.ids)
    no_integers += [annotation(i, "id", x) for i, x in ids if type(x) is not int]
    yield rules.ID_NOT_INTEGER, no_integers
    ids = enumerate(annotations.ids)
    below = [annotation(i, "id", x) for i, x in ids if type(x) is int and x < 1]
    yield rules.ANNOTATION_ID_BELOW_1, below


def _annotation_name(table: Table):
    return lambda i: table.names.annotations(table.annotations.numbers[i])


def _check_names(table: Table) -> Found:
    for rule, place, key, texts, name in (
        (
            rules.FILE_NAME_REPEATED,
            table.image_place,
            "file_name",
            table.images.file_names,
            table.names.images,
        ),
        (
            rules.CATEGORY_NAME_REPEATED,
            table.category_place,
            "name",
            table.categories.names,
            table.names.categories,
        ),
    ):
        repeated = repeats(text or None for text in texts)
        yield rule, [place(i, key, texts[i], f"as {name(j)}") for i, j in repeated]


def _check_annotations(table: Table) -> Found:
    found, places = table.annotations, table.annotation_places
    unknown = (found.category_idxs < 0) & (found.image_idxs >= 0)
    yield rules.CATEGORY_UNKNOWN, places(unknown, "category_id", found.category_ids)
    yield rules.IMAGE_UNKNOWN, places(found.image_idxs < 0, "image_id", found.image_ids)
    yield rules.CROWD, places(found.is_crowd, "iscrowd")
    yield rules.POLYGON_INVALID, places(found.lacks_polygons, "segmentation")
    missing = places(found.lacks_area, "area") + places(found.lacks_crowd_flag, "iscrowd")
    yield rules.EVALUATION_KEY_MISSING, missing


def _check_usage(table: Table) -> Found:
    annotations = table.annotations
    used = ~annotations.is_crowd & (annotations.image_idxs >= 0)
    for rule, place, key, ids, used_idxs in (
        (rules.IMAGE_EMPTY, table.image_place, "id", table.images.ids, annotations.image_idxs),
        (
            rules.CATEGORY_UNUSED,
            table.category_place,
            "name",
            table.categories.names,
            annotations.category_idxs,
        ),
    ):
        unused = np.setdiff1d(np.arange(len(ids)), used_idxs[used])
        yield rule, [place(i, key, ids[i]) for i in unused.tolist()]
