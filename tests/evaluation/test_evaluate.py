"""A LazyConfig's job evaluates with test-time augmentation where the config has it."""

import pytest
from helpers.tiny_jobs import detections, metrics, run_here

pytestmark = pytest.mark.slow

TTA = """
from detectron2.config import LazyCall as L
from detectron2.modeling import DatasetMapperTTA

dataloader.tta_mapper = L(DatasetMapperTTA)(min_sizes=[64, 96], max_size=200, flip=True)
model.postprocessor.score_thresh = 0.0  # two steps teach no higher score
"""


@pytest.fixture(scope="module")
def trained(jobs):
    """The folder of a job that was trained with augmentation."""
    (jobs / "tta.py").write_text((jobs / "tiny.py").read_text() + TTA)
    run(jobs)
    return jobs


def run(folder, *arguments, output=None):
    output_dir = f"train.output_dir={output or folder}"
    run_here("--config-file", folder / "tta.py", *arguments, output_dir)


@pytest.fixture
def eval_only(trained):
    return ["--eval-only", f"train.init_checkpoint={trained / 'model_final.pth'}"]


def test_it_is_evaluated_after_training_beside_the_plain_model(trained):
    assert {"bbox/AP", "bbox_TTA/AP"} <= set(metrics(trained)[-1])
    plain, augmented = (detections(trained, x) for x in ("inference", "inference_TTA"))
    assert len(augmented) > 0 and plain != augmented


def test_eval_only_gives_the_same_detections_and_another_mapper_others(trained, eval_only):
    after_training = detections(trained, "inference_TTA")
    run(trained, *eval_only)
    assert detections(trained, "inference_TTA") == after_training
    run(trained, *eval_only, "dataloader.tta_mapper.flip=False")
    assert detections(trained, "inference_TTA") != after_training


def test_without_a_mapper_there_is_one_evaluation(trained, eval_only, tmp_path):
    run(trained, *eval_only, "dataloader.tta_mapper=null", output=tmp_path)
    assert (tmp_path / "inference").is_dir() and not (tmp_path / "inference_TTA").exists()


def test_a_model_without_postprocessor_is_refused(trained, sentence_of):
    text = (trained / "tta.py").read_text() + "\ndel model.postprocessor\n"
    (trained / "none.py").write_text(text)
    said = sentence_of("--config-file", trained / "none.py")
    assert "dataloader.tta_mapper: there is test-time augmentation for" in said
