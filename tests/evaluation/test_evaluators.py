"""The evaluator that suits a dataset, and the names of metrics that can be watched."""

import pytest
from helpers.random_detections import random_content, register
from helpers.tiny_jobs import catalogs_restored, metrics, options, run_here

from focal_retina.evaluation.box_evaluator import BoxEvaluator
from focal_retina.evaluation.evaluators import build_evaluator


def test_coco_datasets_have_the_evaluator_of_boxes(tmp_path):
    name = register("boxes", random_content(), tmp_path)
    assert isinstance(build_evaluator(name, str(tmp_path)), BoxEvaluator)


@pytest.mark.parametrize("kind", ["yaml", "py"])
@pytest.mark.parametrize(
    "metric, hint",
    [
        ("bbox/AP-nonesuch", "it has bbox/AP, bbox/AP50"),
        ("bbox/ap50", "did you mean bbox/AP50?"),
        ("bbox/AP@100", "did you mean bbox/AP"),
        ("segm/AP", "it has bbox/AP, bbox/AP50"),
        ("bbox_TTA/AP", "did you mean bbox/AP"),
        ("tiny_val/bbox/AP", "it has bbox/AP"),
    ],
)
def test_a_metric_that_can_never_be_is_refused_before_training(
    kind, metric, hint, jobs, tmp_path, sentence_of
):
    given = options(kind, best_metric=metric, output_dir=tmp_path, eval_period=1)
    said = sentence_of("--config-file", jobs / f"tiny.{kind}", *given)
    assert f"is '{metric}', which no evaluation of this run has" in said and hint in said
    assert not (tmp_path / "metrics.json").exists()


def test_with_two_test_sets_a_metric_needs_the_name_of_one(jobs, tmp_path, sentence_of):
    sets = ["DATASETS.TEST", "('tiny_train', 'tiny_val')", "OUTPUT_DIR", tmp_path]
    arguments = ["--config-file", jobs / "tiny.yaml", *sets, "TEST.BEST.METRIC"]
    said = sentence_of(*arguments, "bbox/AP")
    assert "did you mean tiny_" in said
    with catalogs_restored():
        run_here(*arguments, "tiny_val/bbox/AP-ellipse", "SOLVER.MAX_ITER", 1)


@pytest.mark.parametrize("metric", ["bbox/AP-ellipse", "bbox/APs"])
def test_a_metric_without_a_number_so_far_lets_training_go_on(metric, jobs, tmp_path):
    given = ["TEST.EVAL_PERIOD", 1, "TEST.BEST.METRIC", metric, "TEST.BEST.PATIENCE", 5]
    nothing = ["MODEL.RETINANET.SCORE_THRESH_TEST", 0.99, "OUTPUT_DIR", tmp_path]
    run_here("--config-file", jobs / "tiny.yaml", *given, *nothing)
    assert (tmp_path / "model_final.pth").is_file()
    assert not (tmp_path / "model_best.pth").exists()


@pytest.mark.parametrize("kind", ["yaml", "py"])
def test_the_config_s_limit_of_detections_is_that_of_the_ap(kind, jobs, tmp_path):
    given = options(kind, output_dir=tmp_path, detections_per_image=130)
    thresh = ("MODEL.RETINANET.SCORE_THRESH_TEST", "model.postprocessor.score_thresh")[kind == "py"]
    given += [thresh, "0.0"] if kind == "yaml" else [f"{thresh}=0.0"]
    run_here("--config-file", jobs / f"tiny.{kind}", *given)
    assert {"bbox/AP", "bbox/AP@100", "bbox/APl@100"} < metrics(tmp_path)[-1].keys()
