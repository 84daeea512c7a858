"""The picture shows every implementation as far as it was measured."""

import pytest
from matplotlib.image import imread

from experiments.benchmark.results import CaseResult, Measurement
from experiments.benchmark.scaling_plot import plot_scaling


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
