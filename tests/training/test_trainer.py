"""The trainer is Detectron2's where that works, and works where that does not."""

import json

import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultTrainer
from detectron2.utils.env import seed_all_rng
from helpers.tiny_jobs import run_here, write_jobs

from focal_retina.data.register import register_datasets
from focal_retina.engine import FocalTrainer, build_evaluator
from focal_retina.evaluation.evaluate import evaluate_with_tta
from focal_retina.settings.load import settings_of
from focal_retina.settings.yaml_config import load_yaml

pytestmark = pytest.mark.slow


def test_a_dataset_without_evaluator_of_boxes_is_an_error(tmp_path):
    MetadataCatalog.get("masks_only").evaluator_type = "sem_seg"
    with pytest.raises(ValueError, match="masks_only has evaluator_type 'sem_seg'.*'coco'"):
        build_evaluator("masks_only", str(tmp_path))


def test_it_trains_the_very_weights_of_detectron2s_trainer(tmp_path):
    # Ours draws other flips; the images come in the same order.
    opts = ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path), "INPUT.RANDOM_FLIP", "none"]
    cfg = load_yaml(str(write_jobs(tmp_path) / "tiny.yaml"), [*opts, "DATASETS.TEST", ()])
    weights = []
    register_datasets(cfg.DATASETS.REGISTER)
    for trainer_class in (FocalTrainer, DefaultTrainer):
        seed_all_rng(0)
        trainer = trainer_class(cfg)
        trainer.train()
        weights.append(trainer.model.state_dict())
    torch.testing.assert_close(*weights, atol=0, rtol=0)


def test_test_time_augmentation_is_evaluated_after_training_and_on_its_own(tmp_path):
    cfg = ["--config-file", write_jobs(tmp_path) / "tiny.yaml", "OUTPUT_DIR", tmp_path]
    tta = ["TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", "(64, 96)"]
    tta += ["MODEL.RETINANET.SCORE_THRESH_TEST", 0.0]  # two steps teach no higher score
    run_here(*cfg, *tta)
    metrics = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    assert {"bbox/AP", "bbox_TTA/AP"} <= set(metrics)
    weights = ["MODEL.WEIGHTS", tmp_path / "model_final.pth"]
    expected = ["TEST.EXPECTED_RESULTS", "[['bbox_TTA', 'AP', 0.0, 100.0]]"]
    run_here("--eval-only", *cfg, *tta, *weights, *expected)
    assert (tmp_path / "inference_TTA/coco_instances_results.json").is_file()


def test_evaluating_with_augmentation_leaves_the_training_mode(tmp_path):
    opts = ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path), "MODEL.RETINANET.NUM_CLASSES", 6]
    opts += ["TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", [64]]
    cfg = load_yaml(str(write_jobs(tmp_path) / "tiny.yaml"), opts)
    register_datasets(cfg.DATASETS.REGISTER)
    settings = settings_of(cfg)
    model = settings.parts.model().train()
    results = evaluate_with_tta(settings, model)
    assert list(results) == ["bbox_TTA"]
    assert all(module.training for module in model.modules())
