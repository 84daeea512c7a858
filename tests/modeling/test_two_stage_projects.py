"""Detectron2's two-stage configs with our first stage: two keys, then its own trainer."""

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultTrainer
from detectron2.evaluation import COCOEvaluator
from detectron2.modeling import build_model
from helpers.two_stage_jobs import CONFIGS, register_images, two_stage_config

from focal_retina import FocalProposalGenerator, FocalRetinaHead

pytestmark = pytest.mark.slow

# What each evaluates besides boxes.
TASKS = {
    "faster_rcnn": set(),
    "mask_rcnn": {"segm"},
    "cascade_rcnn": {"segm"},
    "keypoint_rcnn": {"keypoints"},
    "pointrend": {"segm"},
    "panoptic_fpn": {"segm"},
}


class Trainer(DefaultTrainer):
    """Detectron2's trainer with the evaluator that its ``tools/train_net.py`` chooses."""

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return COCOEvaluator(dataset_name, output_dir=cfg.OUTPUT_DIR)


def train(cfg, folder):
    """Train, then evaluate; return the trainer and the results."""
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST, cfg.OUTPUT_DIR = ["few"], [], str(folder)
    num_classes = register_images("few", folder, only_persons=cfg.MODEL.KEYPOINT_ON)
    for head in {"ROI_HEADS", "POINT_HEAD"} & set(cfg.MODEL):
        cfg.MODEL[head].NUM_CLASSES = num_classes
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    cfg.DATASETS.TEST = ["few"]
    return trainer, Trainer.test(cfg, trainer.model)


@pytest.mark.parametrize("kind", CONFIGS)
def test_two_keys_change_the_first_stage_and_it_trains_evaluates_saves_and_loads(kind, tmp_path):
    cfg = two_stage_config(kind)
    trainer, results = train(cfg, tmp_path)
    assert type(trainer.model.proposal_generator) is FocalProposalGenerator
    assert set(results) == {"bbox"} | TASKS[kind]
    latest = trainer.storage.latest()
    assert latest["loss_rpn_cls"][0] > 0 and latest["loss_rpn_loc"][0] > 0

    loaded = build_model(cfg).eval()
    DetectionCheckpointer(loaded).load(str(tmp_path / "model_final.pth"))
    inputs = next(iter(build_detection_test_loader(cfg, "few")))
    with torch.no_grad():
        found, wanted = (m(inputs)[0]["instances"] for m in (loaded, trainer.model.eval()))
    assert 0 < len(wanted) <= 5
    assert torch.equal(found.scores, wanted.scores)
    assert torch.equal(found.pred_boxes.tensor, wanted.pred_boxes.tensor)


def test_our_head_trains_and_evaluates_under_detectron2s_rpn(tmp_path):
    trainer, results = train(two_stage_config("faster_rcnn", generator="RPN"), tmp_path)
    assert type(trainer.model.proposal_generator.rpn_head) is FocalRetinaHead
    assert set(results) == {"bbox"}
