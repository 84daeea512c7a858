"""Whatever a json holds: the check ends, and what it finds no error in runs through Detectron2."""

import pytest
from helpers import small_datasets as small
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from focal_retina.data.checks.entries import check_entries, count_drops
from focal_retina.data.checks.pictures import check_pictures, inspect_pictures
from focal_retina.data.checks.reading import read_table
from focal_retina.evaluation.box_evaluator import BoxEvaluator

NUMBERS_ODD = st.integers(-3, 20) | st.sampled_from([2**31, -(10**30), 10**400]) | st.floats()
TEXTS = st.sampled_from(["", "1", "0.png", "cat"]) | st.text(max_size=3)
SCALARS = st.none() | st.booleans() | NUMBERS_ODD | TEXTS
NUMBERS = st.integers(-80, 80) | st.floats(-80, 80) | st.sampled_from([float("nan"), float("inf")])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
BOXES = st.lists(NUMBERS, min_size=4, max_size=4)
POLYGONS = st.lists(st.lists(NUMBERS, max_size=8), max_size=2)
# Values of the right form, which may be wrong nonetheless.
FORMED = {
    "images": {
        "id": st.integers(0, 4),
        "file_name": st.sampled_from(["0.png", "1.png", "2.png", "3.png"]),
        "width": st.sampled_from([64, 64.0, 48]),
        "height": st.sampled_from([64, 48, 48.0]),
    },
    "categories": {"id": st.integers(0, 10), "name": st.text(max_size=3)},
    "annotations": {
        "id": st.integers(-2, 20),
        "image_id": st.integers(0, 4) | st.floats(0, 4),
        "category_id": st.sampled_from([7, 9, 8, 9.0]),
        "bbox": BOXES,
        "iscrowd": st.sampled_from([0, 1, 1.0, True, 2]),
        "area": NUMBERS,
        "segmentation": POLYGONS,
        "ignore": st.sampled_from([0, 1, False]),
    },
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return small.write_dataset(tmp_path_factory.mktemp("any"))


def errors_in(dataset, content):
    """Write the content into the dataset's json, and return the errors that the check finds."""
    small.write_json(dataset[0], content)
    table = read_table(*dataset)
    count_drops(table, True)
    findings = check_entries(table) + check_pictures(table, inspect_pictures(table, False, 1))
    return [str(finding) for finding in findings if finding.problem.is_error]


@st.composite
def contents(draw):
    """Draw a good content in which some values are replaced or removed."""
    content = small.coco_content()
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(list(FORMED)))
        entry = content[kind][draw(st.integers(0, len(content[kind]) - 1))]
        key = draw(st.sampled_from(list(FORMED[kind])))
        entry[key] = draw(FORMED[kind][key] | VALUES)
        if draw(st.integers(0, 9)) == 0:
            del entry[key]
    return content


SETTINGS = settings(max_examples=40, suppress_health_check=[HealthCheck.filter_too_much])


@SETTINGS
@given(content=contents())
def test_a_json_without_errors_trains_and_evaluates(dataset, content):
    assume(not errors_in(dataset, content))
    inputs = small.detectron2_trains_on(*dataset)
    assert all(x["instances"].gt_boxes.tensor.isfinite().all() for x in inputs.values())
    small.detectron2_evaluates(*dataset, BoxEvaluator)


@SETTINGS
@given(content=VALUES | st.fixed_dictionaries({key: VALUES | st.lists(VALUES) for key in FORMED}))
def test_what_is_no_coco_json_at_all_is_an_error(dataset, content):
    assert errors_in(dataset, content) != []
