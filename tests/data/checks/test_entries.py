"""Every mistake that a json can have is found at its place, and is what Detectron2 makes of it."""

import math

import pytest
from helpers.small_datasets import WIDTH, coco_content

from focal_retina.data.checks.entries import check_entries
from focal_retina.data.checks.reading import table_of

NAN, INF = math.nan, math.inf


def change(kind, number, **values):
    """Return a function that changes keys of an entry; ``None`` for a value removes its key."""

    def apply(content):
        entry = content[kind][number]
        for key, value in values.items():
            entry[key] = value
            if value is None:
                del entry[key]

    return apply


def add(kind, number, **values):
    """Return a function that adds a copy of an entry with other values."""

    def apply(content):
        content[kind].append({**content[kind][number], **values})

    return apply


def changed(*changes):
    content = coco_content()
    for apply in changes:
        apply(content)
    return content


def box(*values):
    return change("annotations", 3, bbox=list(values))


# Problem; the change; what names the place: path, annotation id, file name.
CASES = [
    ("malformed", box(1, 2, 3), ("annotations[3].bbox", 13, "1.png")),
    ("malformed", box(1, 2, 3, "4"), ("annotations[3].bbox", 13, "1.png")),
    ("malformed", box(1, 2, 3, True), ("annotations[3].bbox", 13, "1.png")),
    ("malformed", box(1, 2, 3, 10**400), ("annotations[3].bbox", 13, "1.png")),
    ("malformed", change("annotations", 3, bbox=None), ("annotations[3].bbox", 13, "1.png")),
    ("malformed", change("annotations", 3, id=None), ("annotations[3].id", None, "1.png")),
    ("malformed", change("annotations", 3, iscrowd="0"), ("annotations[3].iscrowd", 13, "1.png")),
    ("malformed", change("annotations", 3, ignore=1), ("annotations[3].ignore", 13, "1.png")),
    (
        "malformed",
        change("annotations", 3, segmentation=[3]),
        ("annotations[3].segmentation", 13, "1.png"),
    ),
    (
        "malformed",
        change("annotations", 3, category_id=[7]),
        ("annotations[3].category_id", 13, "1.png"),
    ),
    (
        "malformed",
        change("annotations", 3, image_id=None),
        ("annotations[3].image_id", 13, None),
    ),
    ("malformed", change("images", 1, width=None), ("images[1].width", None, "1.png")),
    ("malformed", change("images", 1, height="48"), ("images[1].height", None, "1.png")),
    ("malformed", change("images", 1, file_name=""), ("images[1].file_name", None, "")),
    ("malformed", change("images", 1, id="2"), ("images[1].id", None, "1.png")),
    ("malformed", change("categories", 1, name=None), ("categories[1].name", None, None)),
    ("box-not-finite", box(NAN, 1, 2, 3), ("annotations[3].bbox", 13, "1.png")),
    ("box-not-finite", box(1, 1, INF, 3), ("annotations[3].bbox", 13, "1.png")),
    ("box-negative", box(30, 20, -4, 5), ("annotations[3].bbox", 13, "1.png")),
    ("box-empty", box(30, 20, 4, 0), ("annotations[3].bbox", 13, "1.png")),
    ("box-outside", box(WIDTH, 20, 4, 5), ("annotations[3].bbox", 13, "1.png")),
    ("box-across-border", box(-4, 20, 9, 5), ("annotations[3].bbox", 13, "1.png")),
    (
        "category-unknown",
        change("annotations", 3, category_id=8),
        ("annotations[3].category_id", 13, "1.png"),
    ),
    ("category-id-repeated", add("categories", 0, name="x"), ("categories[2].id", None, None)),
    ("category-name-repeated", add("categories", 0, id=1), ("categories[2].name", None, None)),
    ("category-unused", add("categories", 0, id=1, name="x"), ("categories[2].name", None, None)),
    (
        "image-unknown",
        change("annotations", 3, image_id=99),
        ("annotations[3].image_id", 13, None),
    ),
    ("image-id-repeated", add("images", 1, file_name="x.png"), ("images[3].id", None, "x.png")),
    ("file-name-repeated", add("images", 1, id=9), ("images[3].file_name", None, "1.png")),
    ("annotation-id-repeated", add("annotations", 3), ("annotations[6].id", 13, "1.png")),
    (
        "annotation-repeated",
        add("annotations", 3, id=99),
        ("annotations[6].bbox", 99, "1.png"),
    ),
    ("crowd", change("annotations", 3, iscrowd=1), ("annotations[3].iscrowd", 13, "1.png")),
    (
        "polygon-invalid",
        change("annotations", 3, segmentation=[[1, 2, 3, 4]]),
        ("annotations[3].segmentation", 13, "1.png"),
    ),
    (
        "evaluation-key-missing",
        change("annotations", 3, area=None),
        ("annotations[3].area", 13, "1.png"),
    ),
    (
        "evaluation-key-missing",
        change("annotations", 3, iscrowd=None),
        ("annotations[3].iscrowd", 13, "1.png"),
    ),
    ("id-not-integer", change("annotations", 3, id="13"), ("annotations[3].id", "13", "1.png")),
    ("annotation-id-below-1", change("annotations", 3, id=0), ("annotations[3].id", 0, "1.png")),
    ("image-empty", add("images", 1, id=9, file_name="x.png"), ("images[3].id", None, "x.png")),
]


# Problem; the last value that is fine; the first that is wrong.
LIMITS = [
    ("malformed", change("images", 1, width=1), change("images", 1, width=0)),
    ("malformed", change("images", 1, width=2**31 - 1), change("images", 1, width=2**31)),
    ("malformed", change("annotations", 3, iscrowd=1), change("annotations", 3, iscrowd=2)),
    ("annotation-id-below-1", change("annotations", 3, id=1), change("annotations", 3, id=0)),
    ("box-empty", box(30, 20, 4, 1.1e-5), box(30, 20, 4, 1e-5)),
    ("box-outside", box(WIDTH - 1, 20, 4, 5), box(WIDTH, 20, 4, 5)),
    ("box-across-border", box(-1, 20, 9, 5), box(-1.1, 20, 9, 5)),
    ("box-across-border", box(WIDTH - 3, 20, 4, 5), box(WIDTH - 3, 20, 4.1, 5)),
    (
        "polygon-invalid",
        change("annotations", 3, segmentation=[[1, 2, 3, 4], [1, 2, 3, 4, 5, 6]]),
        change("annotations", 3, segmentation=[[1, 2, 3, 4], [1, 2, 3, 4, 5]]),
    ),
]


def found_in(content):
    """Return the places of findings by the name of the problem."""
    return {finding.problem.name: finding.places for finding in check_entries(table_of(content))}


def test_a_good_dataset_has_no_finding():
    assert found_in(coco_content()) == {}


@pytest.mark.parametrize("problem, apply, expected", CASES)
def test_a_mistake_is_found_where_it_is(problem, apply, expected):
    (place,) = found_in(changed(apply))[problem]
    assert (place.path, place.annotation_id, place.file_name) == expected


@pytest.mark.parametrize("problem, fine, wrong", LIMITS)
def test_limits_hold_at_their_exact_value(problem, fine, wrong):
    assert problem not in found_in(changed(fine))
    assert problem in found_in(changed(wrong))
