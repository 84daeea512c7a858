"""Every mistake that a json can have is found at its place, and is what Detectron2 makes of it."""

import math

import pytest
from helpers.small_datasets import MISSING, WIDTH, added, changed, coco_content

from focal_retina.data.checks.entries import check_entries
from focal_retina.data.checks.reading import table_of

NAN, INF = math.nan, math.inf

# Problem; the key and the value that annotations[3] of image 1.png has in the place of its own.
ANNOTATION = [
    ("malformed", "bbox", [1, 2, 3]),
    ("malformed", "bbox", [1, 2, 3, "4"]),
    ("malformed", "bbox", [1, 2, 3, True]),
    ("malformed", "bbox", [1, 2, 3, 10**400]),
    ("malformed", "bbox", MISSING),
    ("malformed", "id", MISSING),
    ("malformed", "iscrowd", "0"),
    ("malformed", "ignore", 1),
    ("malformed", "segmentation", [3]),
    ("malformed", "category_id", [7]),
    ("malformed", "image_id", MISSING),
    ("box-not-finite", "bbox", [NAN, 1, 2, 3]),
    ("box-not-finite", "bbox", [1, 1, INF, 3]),
    ("box-negative", "bbox", [30, 20, -4, 5]),
    ("box-empty", "bbox", [30, 20, 4, 0]),
    ("box-outside", "bbox", [WIDTH, 20, 4, 5]),
    ("box-across-border", "bbox", [-4, 20, 9, 5]),
    ("category-unknown", "category_id", 8),
    ("image-unknown", "image_id", 99),
    ("crowd", "iscrowd", 1),
    ("polygon-invalid", "segmentation", [[1, 2, 3, 4]]),
    ("evaluation-key-missing", "area", MISSING),
    ("evaluation-key-missing", "iscrowd", MISSING),
    ("id-not-integer", "id", "13"),
    ("annotation-id-below-1", "id", 0),
]
# Problem; the change; what names the place: path, annotation id, file name.
OTHERS = [
    ("malformed", changed("images", 1, width=MISSING), ("images[1].width", None, "1.png")),
    ("malformed", changed("images", 1, height="48"), ("images[1].height", None, "1.png")),
    ("malformed", changed("images", 1, file_name=""), ("images[1].file_name", None, "")),
    ("malformed", changed("images", 1, id="2"), ("images[1].id", None, "1.png")),
    ("malformed", changed("categories", 1, name=MISSING), ("categories[1].name", None, None)),
    ("category-id-repeated", added("categories", 0, name="x"), ("categories[2].id", None, None)),
    ("category-name-repeated", added("categories", 0, id=1), ("categories[2].name", None, None)),
    ("category-unused", added("categories", 0, id=1, name="x"), ("categories[2].name", None, None)),
    ("image-id-repeated", added("images", 1, file_name="x.png"), ("images[3].id", None, "x.png")),
    ("file-name-repeated", added("images", 1, id=9), ("images[3].file_name", None, "1.png")),
    ("annotation-id-repeated", added("annotations", 3), ("annotations[6].id", 13, "1.png")),
    ("annotation-repeated", added("annotations", 3, id=99), ("annotations[6].bbox", 99, "1.png")),
    ("image-empty", added("images", 1, id=9, file_name="x.png"), ("images[3].id", None, "x.png")),
]
# Problem; kind and key of entry 3 or 1; the last value that is fine; the first that is wrong.
LIMITS = [
    ("malformed", "images", "width", 1, 0),
    ("malformed", "images", "width", 2**31 - 1, 2**31),
    ("malformed", "annotations", "iscrowd", 1, 2),
    ("annotation-id-below-1", "annotations", "id", 1, 0),
    ("box-empty", "annotations", "bbox", [30, 20, 4, 1.1e-5], [30, 20, 4, 1e-5]),
    ("box-outside", "annotations", "bbox", [WIDTH - 1, 20, 4, 5], [WIDTH, 20, 4, 5]),
    ("box-across-border", "annotations", "bbox", [-1, 20, 9, 5], [-1.1, 20, 9, 5]),
    ("box-across-border", "annotations", "bbox", [WIDTH - 3, 20, 4, 5], [WIDTH - 3, 20, 4.1, 5]),
    ("polygon-invalid", "annotations", "segmentation", [[1, 2, 3, 4, 5, 6]], [[1, 2, 3, 4]]),
]


def found_in(content):
    """Return the places of findings by the name of the problem."""
    return {finding.problem.label: finding.places for finding in check_entries(table_of(content))}


def test_a_good_dataset_has_no_finding():
    assert found_in(coco_content()) == {}


@pytest.mark.parametrize("problem, key, value", ANNOTATION)
def test_a_mistake_in_an_annotation_is_found_where_it_is(problem, key, value):
    (place,) = found_in(changed("annotations", 3, **{key: value}))[problem]
    annotation_id = 13 if key != "id" else None if value is MISSING else value
    file_name = None if key == "image_id" else "1.png"
    expected = (f"annotations[3].{key}", annotation_id, file_name)
    assert (place.path, place.annotation_id, place.file_name) == expected


@pytest.mark.parametrize("problem, content, expected", OTHERS)
def test_another_mistake_is_found_where_it_is(problem, content, expected):
    (place,) = found_in(content)[problem]
    assert (place.path, place.annotation_id, place.file_name) == expected


@pytest.mark.parametrize("problem, kind, key, fine, wrong", LIMITS)
def test_limits_hold_at_their_exact_value(problem, kind, key, fine, wrong):
    number = 3 if kind == "annotations" else 1
    assert problem not in found_in(changed(kind, number, **{key: fine}))
    assert problem in found_in(changed(kind, number, **{key: wrong}))
