"""Every mistake that a json can have is found at its place, and is what Detectron2 makes of it."""

from pathlib import Path

import pytest
import yaml
from helpers import small_datasets as small

from focal_retina.data.checks.entries import check_entries
from focal_retina.data.checks.reading import table_of

TABLES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
HUGE = ("malformed", "bbox", [1, 2, 3, 10**400])


def found_in(content):
    """Return, by the name of the problem, where it is: paths, annotation ids, file names."""
    return {
        finding.problem.label: [(x.path, x.annotation_id, x.file_name) for x in finding.places]
        for finding in check_entries(table_of(content))
    }


def test_a_good_dataset_has_no_finding():
    assert found_in(small.coco_content()) == {}


@pytest.mark.parametrize("problem, key, value", [*TABLES["annotations"], HUGE])
def test_a_mistake_in_an_annotation_is_found_where_it_is(problem, key, value):
    annotation_id = 13 if key != "id" else None if value == small.MISSING else value
    expected = (f"annotations[3].{key}", annotation_id, None if key == "image_id" else "1.png")
    assert found_in(small.changed("annotations", 3, **{key: value}))[problem] == [expected]


@pytest.mark.parametrize("problem, change, kind, number, values, expected", TABLES["others"])
def test_another_mistake_is_found_where_it_is(problem, change, kind, number, values, expected):
    content = getattr(small, change)(kind, number, **values)
    assert found_in(content)[problem] == [tuple(expected)]


@pytest.mark.parametrize("problem, kind, number, key, fine, wrong", TABLES["limits"])
def test_limits_hold_at_their_exact_value(problem, kind, number, key, fine, wrong):
    assert problem not in found_in(small.changed(kind, number, **{key: fine}))
    assert problem in found_in(small.changed(kind, number, **{key: wrong}))
