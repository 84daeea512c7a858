"""The picture shows every contestant as far as it was measured."""

import pytest
from matplotlib.image import imread

from experiments.benchmark.measuring import CaseResult, Measurement
from experiments.benchmark.plot import plot_sweeps
from experiments.benchmark.scaling import SweepResult


def sweep_of(*results):
    cases = [CaseResult("scaling", "a case", "Detectron2", m, 0, "") for m in results]
    return SweepResult("a sweep", "objects", tuple(range(1, len(cases) + 1)), cases)


def picture_of(path, *results):
    plot_sweeps([sweep_of(*results)], path / "scaling.png")
    return imread(path / "scaling.png")


@pytest.mark.parametrize("peak_mib", [2.0, None])
def test_the_line_of_a_contestant_ends_where_it_was_left_out(tmp_path, peak_mib):
    ours, theirs = Measurement([1.0], peak_mib), Measurement([5.0], peak_mib)
    both = {"Detectron2": theirs, "focal_retina": ours}
    without = picture_of(tmp_path, both, {"focal_retina": ours})
    assert (without != picture_of(tmp_path, both, both)).any()
