"""The report sets what was measured beside the targets."""

import pytest

from experiments.benchmark.inputs import Setting
from experiments.benchmark.markdown import markdown
from experiments.benchmark.measuring import CaseResult, Measurement
from experiments.benchmark.report import Report
from experiments.benchmark.shares import Share
from experiments.benchmark.targets import Target

STEP = CaseResult(
    "training",
    "step, 1 image",
    "Detectron2 fp32",
    {
        "Detectron2 fp32": Measurement([6.0, 4.0, 5.0], 1000.0),
        "focal_retina fp32": Measurement([2.5, 2.5, 9.0], 600.0, note="a note"),
        "focal_retina bf16": Measurement([1.0, 1.0, 1.0], None),
    },
    amount=1,
    unit="images",
)
REPORT = Report(
    {"CPU": "a model"},
    Setting(),
    rounds=3,
    cases=[STEP],
    shares={"focal_retina fp32": Share(2.5, 0.03, {"aten::convolution": 0.9})},
)


def row_of(text, *cells):
    """Return the cells of the one row that begins with these cells."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    (row,) = [row for row in rows if row[: len(cells)] == list(cells)]
    return row[len(cells) :]


@pytest.mark.parametrize(
    ("quantity", "measured"),
    [("speedup", 2.0), ("memory ratio", 0.6), ("memory, MiB", 600.0)],
)
def test_a_target_is_about_the_quantity_it_names(quantity, measured):
    names = "training", "step, 1 image", "focal_retina fp32", "Detectron2 fp32"
    assert REPORT.measured(Target(*names, quantity, 0)) == measured


def test_what_was_not_measured_is_none():
    names = "inference", "1 image", "focal_retina fp32", "Detectron2 fp32"
    assert REPORT.measured(Target(*names, "speedup", 0)) is None


@pytest.mark.parametrize(
    ("quantity", "reached"),
    [("speedup", (False, True, True)), ("memory ratio", (True, True, False))],
)
def test_a_speedup_must_be_at_least_and_all_else_at_most_its_bound(quantity, reached):
    target = Target("", "", "", "", quantity, 2.0)
    assert tuple(target.is_reached(x) for x in (1.9, 2.0, 2.1)) == reached


def test_targets_stand_beside_what_was_measured():
    text = markdown(REPORT)
    step = "training: step, 1 image", "focal_retina fp32", "Detectron2 fp32"
    assert row_of(text, *step, "speedup") == ["2", "at least 1.8", "yes"]
    assert row_of(text, *step, "memory ratio") == ["0.6", "at most 0.55", "no"]
    share = row_of(text, "share: outside convolutions")
    assert share == ["focal_retina fp32", "-", "time share", "0.03", "at most 0.04", "yes"]
    assert "inference" not in text


def test_a_case_shows_median_range_ratios_and_rate():
    row = row_of(markdown(REPORT), "Detectron2 fp32 (baseline)")
    assert row == ["5000", "4000", "6000", "1.00x", "1000", "1.00x", "0.20"]
    assert row_of(markdown(REPORT), "focal_retina bf16") == (
        ["1000", "1000", "1000", "5.00x", "-", "-", "1.00"]
    )
    assert "- focal_retina fp32: a note" in markdown(REPORT)
