"""The figures are drawn, with a model or without."""

import cv2
import pytest
from helpers.tiny_jobs import catalogs_restored, write_jobs, write_random_weights

from experiments.plot_analysis import main


def test_the_figures_of_the_losses_need_no_model(tmp_path, capsys):
    assert main(["--output", str(tmp_path)]) == 0
    names = [f"figure_{n}.png" for n in (1, 5, 6, 7)]
    assert capsys.readouterr().out.split() == [str(tmp_path / name) for name in names]
    assert all(cv2.imread(str(tmp_path / name)).std() > 10 for name in names)


def test_figure_4_of_a_checkpoint_prints_its_facts(tmp_path, capsys):
    config_file = write_jobs(tmp_path) / "tiny.yaml"
    weights = ["MODEL.WEIGHTS", str(write_random_weights(config_file))]
    sizes = ["--max-images", "3", "--background", "500"]
    arguments = ["--output", str(tmp_path), "--config-file", str(config_file)]
    with catalogs_restored():
        assert main([*arguments, *sizes, *weights]) == 0
    printed = capsys.readouterr().out
    assert "and 500 background examples" in printed
    assert "gamma 2: the hardest 20% of foreground carry" in printed
    assert cv2.imread(str(tmp_path / "figure_4.png")).std() > 10


@pytest.mark.parametrize(
    ("opts", "named"),
    [
        ([], "MODEL.WEIGHTS is empty"),
        (["MODEL.WEIGHTS", "missing.pth"], "missing.pth"),
        (["MODEL.WEIGHTS", "x", "MODEL.FOCAL_RETINA.CLS_LOSS", "softmax_focal"], "sigmoid loss"),
    ],
)
def test_a_mistake_ends_in_one_sentence_that_names_it(tmp_path, capsys, opts, named):
    config_file = str(write_jobs(tmp_path) / "tiny.yaml")
    with catalogs_restored():
        assert main(["--output", str(tmp_path), "--config-file", config_file, *opts]) == 2
    assert named in capsys.readouterr().err.strip().splitlines()[-1]
