"""A series has one case for each value."""

from collections import Counter

import pytest

from experiments.benchmark.cases.scaling import scaling_cases
from experiments.benchmark.setting import QUICK, Setting


@pytest.fixture(scope="module")
def cases():
    return {case.title: case for case in scaling_cases(QUICK)}


def test_each_value_has_a_case_with_a_title_of_its_own(cases):
    assert list(cases) == [
        "scaling, labelling, 1",
        "scaling, labelling, 10",
        "scaling, training step, 160",
        "scaling, focal loss, forward and backward, 1",
        "scaling, focal loss, forward and backward, 8",
    ]
    assert list(Counter(case.axis for case in cases.values()).values()) == [2, 1, 2]


def test_others_are_left_out_where_they_would_not_fit(cases):
    everyone = {"Detectron2", "torchvision", "focal_retina"}
    assert cases["scaling, labelling, 1"].implementations.keys() == everyone
    assert cases["scaling, labelling, 10"].implementations.keys() == {"focal_retina"}
    last = cases["scaling, focal loss, forward and backward, 8"].implementations
    assert {"focal_retina", "limit: copy of the logits"} <= last.keys()
    assert "Detectron2" not in last


def test_the_values_span_what_users_have():
    setting = Setting()
    values = setting.scaling_objects, setting.scaling_sides, setting.scaling_classes
    assert [(v[0], v[-1]) for v in values] == [(1, 5000), (400, 1333), (1, 1203)]
