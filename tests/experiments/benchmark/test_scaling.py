"""Sweeps have one case for each value, with a name of its own."""

import pytest

from experiments.benchmark.__main__ import QUICK
from experiments.benchmark.scaling import sweeps


@pytest.fixture(scope="module")
def cases():
    return {sweep.name: list(sweep.cases) for sweep in sweeps(QUICK, quick=True)}


def test_each_value_has_a_case_of_its_own_name(cases):
    names = [case.name for of_sweep in cases.values() for case in of_sweep]
    assert names == [
        "labelling, 1",
        "labelling, 10",
        "training step, 160",
        "focal loss, forward and backward, 1",
        "focal loss, forward and backward, 8",
    ]
    assert {case.group for of_sweep in cases.values() for case in of_sweep} == {"scaling"}


def test_others_are_left_out_where_they_would_not_fit(cases):
    assert [set(case.contestants) for case in cases["labelling"]] == [
        {"Detectron2", "torchvision", "focal_retina"},
        {"focal_retina"},
    ]
    last = cases["focal loss, forward and backward"][-1]
    assert "Detectron2" not in last.contestants
    assert {"focal_retina", "limit: copy of the logits"} <= last.contestants.keys()


def test_the_values_span_what_users_have():
    spans = {sweep.axis: (sweep.values[0], sweep.values[-1]) for sweep in sweeps(QUICK, False)}
    assert spans == {
        "objects of an image": (1, 5000),
        "side of a square image (pixels)": (400, 1333),
        "classes": (1, 1203),
    }
