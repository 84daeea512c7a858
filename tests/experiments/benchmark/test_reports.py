"""The report shows times, ratios to the baseline and series; the picture all that was measured."""

import pytest
from matplotlib.image import imread

from experiments.benchmark.markdown_report import markdown_report
from experiments.benchmark.results import CaseResult, Measurement, Report
from experiments.benchmark.scaling_plot import plot_scaling
from experiments.benchmark.setting import Setting

STEP = {
    "Detectron2 fp32": Measurement([6.0, 4.0, 5.0], 1000.0),
    "focal_retina fp32": Measurement([2.5, 2.5, 9.0], 600.0, note="a note"),
    "focal_retina bf16": Measurement([1.0, 1.0, 1.0], None),
}
SERIES = ("scaling", "training step", "Detectron2 fp32")
CASES = [
    CaseResult("training", "step, 1 image", "Detectron2 fp32", STEP),
    CaseResult(*SERIES, STEP, "side", 400),
    CaseResult(*SERIES, {"focal_retina fp32": STEP["focal_retina fp32"]}, "side", 800),
]
TEXT = markdown_report(Report({"CPU": "a model"}, Setting(), rounds=3, cases=CASES))


def row_of(first_cell):
    """Return the other cells of the one row that begins with this cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines()]
    (row,) = [row for row in rows if row[0] == first_cell]
    return row[1:]


def test_a_case_shows_median_range_and_ratios():
    theirs = ["5000", "4000", "6000", "1.00x", "1000", "1.00x"]
    assert row_of("Detectron2 fp32 (baseline)") == theirs
    assert row_of("focal_retina fp32") == ["2500", "2500", "9000", "2.00x", "600", "0.60x"]
    assert row_of("focal_retina bf16") == ["1000", "1000", "1000", "5.00x", "-", "-"]
    assert "- focal_retina fp32: a note" in TEXT


def test_a_series_shows_one_row_for_each_value_without_ratios_where_the_baseline_is_missing():
    theirs, ours = "5000 ms, 1000 MiB", "2500 ms, 600 MiB"
    assert row_of("400") == [theirs, f"{ours}, 2.00x", "1000 ms, - MiB, 5.00x"]
    assert row_of("800") == ["-", ours, "-"]


def picture_of(folder, *measurements):
    series = [
        CaseResult("scaling", "a case", "Detectron2", of_value, "objects", value)
        for value, of_value in enumerate(measurements, start=1)
    ]
    plot_scaling([series], folder / "scaling.png")
    return imread(folder / "scaling.png")


@pytest.mark.parametrize("peak_mib", [2.0, None])
def test_the_line_of_an_implementation_ends_where_it_was_left_out(tmp_path, peak_mib):
    ours, theirs = Measurement([1.0], peak_mib), Measurement([5.0], peak_mib)
    both = {"Detectron2": theirs, "focal_retina": ours}
    without = picture_of(tmp_path, both, {"focal_retina": ours})
    assert (without != picture_of(tmp_path, both, both)).any()
