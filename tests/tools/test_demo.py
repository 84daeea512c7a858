"""The demo from end to end, with few images and iterations."""

import json

import cv2
import numpy as np
import pytest
from bad_input.running import run_tool
from detectron2.structures import Boxes, Instances

from focal_retina.tools import demo

ITERATIONS = 3


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The outcome and the output folder of one run."""
    output = tmp_path_factory.mktemp("demo")
    few = f"--train-images 8 --val-images 5 SOLVER.MAX_ITER {ITERATIONS} SOLVER.IMS_PER_BATCH 2"
    outcome = run_tool("demo", ["--output", str(output), *few.split()])
    assert outcome.status == 0, outcome.errors
    return outcome, output


def test_the_pictures_are_written(finished):
    _, output = finished
    grid = cv2.imread(str(output / "detections.png"))
    curve = cv2.imread(str(output / "loss_curve.png"))
    assert min(*grid.shape[:2], *curve.shape[:2]) >= 400
    assert grid.std() > 10 and curve.std() > 10


def test_coco_s_results_and_one_summarising_line_are_printed(finished):
    outcome, _ = finished
    lines = outcome.output.splitlines()
    assert {"AP", "AP50", "AP75", "APs", "APm", "APl"} <= {x.split()[0] for x in lines}
    assert lines[-1].startswith("box AP ")
    assert "AP50" in lines[-1] and lines[-1].endswith("seconds")


def test_the_progress_line_reaches_the_last_iteration_with_a_loss(finished):
    outcome, _ = finished
    assert f"{ITERATIONS}/{ITERATIONS} [" in outcome.errors
    assert "loss=" in outcome.errors


def test_what_detectron2_writes_and_the_dataset_are_kept(finished):
    _, output = finished
    metrics = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    assert metrics[-1]["iteration"] >= ITERATIONS - 1
    assert (output / "inference/coco_instances_results.json").is_file()
    assert (output / "model_final.pth").is_file()
    assert "bbox" in (output / "log.txt").read_text()
    datasets = {path.name for path in (output / "shapes").glob("*seed0")}
    assert datasets == {"train-8x160-seed0", "val-5x160-seed0"}


def test_detections_are_drawn_from_a_score_of_one_half_on(tmp_path):
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((48, 64, 3)))
    boxes = Boxes([[4.0, 20, 20, 40], [40.0, 20, 60, 40]])
    found = {"pred_classes": np.zeros(2, int), "scores": np.array([0.51, 0.49])}

    class Detector:
        class_names = ["cat"]

        def __call__(self, files):
            return [Instances((48, 64), pred_boxes=boxes, **found) for _ in files]

    (picture,) = demo.draw_pictures(Detector(), [str(tmp_path / "black.png")])
    middle = picture.shape[1] // 2
    assert picture[:, :middle].any() and not picture[:, middle:].any()


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["SOLVER.MAX_ITERS", "3"], "SOLVER.MAX_ITERS"),
        (["--config-file", "missing.yaml"], "missing.yaml"),
        (["--output", "/proc/demo"], "/proc/demo"),
        (["DATASETS.TEST", "()"], "one dataset in DATASETS.TEST"),
    ],
)
def test_a_mistake_ends_in_one_sentence_that_names_it(tmp_path, capsys, arguments, named):
    few = ["--train-images", "2", "--val-images", "2"]
    assert demo.main(["--output", str(tmp_path), *few, *arguments]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("demo: error: ") and named in sentence


@pytest.mark.parametrize("name", ["log.txt", "model_final.pth"])
def test_what_the_demo_reads_is_not_written_over(name, tmp_path, capsys):
    config = f"_BASE_: {demo.CONFIG_FILE}\n"
    (tmp_path / name).write_text(config)
    few = ["--train-images", "2", "--val-images", "2", "--config-file", str(tmp_path / name)]
    assert demo.main(["--output", str(tmp_path), *few]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert f"{name} is read here" in sentence
    assert (tmp_path / name).read_text() == config
