"""A LazyConfig's job evaluates with test-time augmentation where the config has it."""

import json

import pytest
from helpers.tiny_jobs import catalogs_restored, run_here, write_jobs

TTA = """
from detectron2.config import LazyCall as L
from detectron2.modeling import DatasetMapperTTA

dataloader.tta_mapper = L(DatasetMapperTTA)(min_sizes=[64, 96], max_size=200, flip=True)
model.postprocessor.score_thresh = 0.0  # two steps teach no higher score
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a job that was trained with augmentation."""
    folder = write_jobs(tmp_path_factory.mktemp("tta"))
    (folder / "tta.py").write_text((folder / "tiny.py").read_text() + TTA)
    run(folder)
    return folder


def run(folder, *arguments):
    options = ["--config-file", folder / "tta.py", *arguments, f"train.output_dir={folder}"]
    with catalogs_restored():
        run_here(*options)


def detections(folder):
    return json.loads((folder / "coco_instances_results.json").read_text())


def test_it_is_evaluated_after_training_beside_the_plain_model(trained):
    metrics = json.loads((trained / "metrics.json").read_text().splitlines()[-1])
    assert {"bbox/AP", "bbox_TTA/AP"} <= set(metrics)
    plain, augmented = (detections(trained / x) for x in ("inference", "inference_TTA"))
    assert len(augmented) > 0 and plain != augmented


def test_eval_only_gives_the_same_detections_and_another_mapper_others(trained):
    after_training = detections(trained / "inference_TTA")
    weights = f"train.init_checkpoint={trained / 'model_final.pth'}"
    run(trained, "--eval-only", weights)
    assert detections(trained / "inference_TTA") == after_training
    run(trained, "--eval-only", weights, "dataloader.tta_mapper.flip=False")
    assert detections(trained / "inference_TTA") != after_training


def test_without_a_mapper_there_is_one_evaluation(trained, tmp_path):
    weights = f"train.init_checkpoint={trained / 'model_final.pth'}"
    config = ["--config-file", trained / "tta.py", "--eval-only", weights]
    with catalogs_restored():
        run_here(*config, "dataloader.tta_mapper=null", f"train.output_dir={tmp_path}")
    assert (tmp_path / "inference").is_dir() and not (tmp_path / "inference_TTA").exists()


def test_a_model_without_postprocessor_is_refused(trained, capsys):
    text = (trained / "tta.py").read_text() + "\ndel model.postprocessor\n"
    (trained / "none.py").write_text(text)
    with catalogs_restored(), pytest.raises(SystemExit) as stopped:
        run_here("--config-file", trained / "none.py")
    assert stopped.value.code == 2
    assert "dataloader.tta_mapper: there is test-time augmentation for" in capsys.readouterr().err
