"""Faster R-CNN on drawn shapes with Detectron2's RPN and with the focal-loss first stage.

    python examples/compare_first_stages.py --iterations 600 --seeds 0 1

Prints, for each first stage and seed, the recall of the best 100 proposals (mean over IoU 0.5 to
0.95) and the box AP, both in percent. KEY VALUE pairs at the end change the config of both.
"""

import argparse
import os

from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg
from detectron2.data import build_detection_test_loader
from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.modeling import detector_postprocess
from detectron2.utils.env import seed_all_rng
from torch import nn

from focal_retina import add_focal_retina_config
from focal_retina.data.shapes import register_shapes
from focal_retina.engine import FocalTrainer
from focal_retina.evaluation.evaluate import evaluate
from focal_retina.settings.load import settings_of
from focal_retina.settings.machine import usable_device

# What differs: MODEL.PROPOSAL_GENERATOR.NAME and MODEL.RPN.HEAD_NAME.
FIRST_STAGES = (("RPN", "StandardRPNHead"), ("FocalProposalGenerator", "FocalRetinaHead"))

SMALL = """
MODEL:
  WEIGHTS: ""
  PIXEL_STD: [57.375, 57.120, 58.395]
  BACKBONE: {FREEZE_AT: 0}
  RESNETS: {DEPTH: 18, RES2_OUT_CHANNELS: 64, NORM: BN}
  FPN: {OUT_CHANNELS: 64}
  ANCHOR_GENERATOR: {SIZES: [[8], [16], [32], [64], [128]]}
  ROI_HEADS: {NUM_CLASSES: 6, BATCH_SIZE_PER_IMAGE: 64}
  ROI_BOX_HEAD: {FC_DIM: 256}
DATASETS: {TRAIN: [shapes_train], TEST: [shapes_val]}
DATALOADER: {NUM_WORKERS: 0}
INPUT: {MIN_SIZE_TRAIN: [160], MIN_SIZE_TEST: 160}
SOLVER: {IMS_PER_BATCH: 8, BASE_LR: 0.02, WARMUP_ITERS: 50, LR_SCHEDULER_NAME: WarmupCosineLR}
"""


class ProposalsOnly(nn.Module):
    """The first stage of a ``GeneralizedRCNN``, with outputs that ``COCOEvaluator`` measures."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        images = self.model.preprocess_image(batched_inputs)
        features = self.model.backbone(images.tensor)
        proposals, _ = self.model.proposal_generator(images, features)
        pairs = zip(proposals, batched_inputs, strict=True)
        return [{"proposals": detector_postprocess(p, x["height"], x["width"])} for p, x in pairs]


def config(stage: tuple[str, str], seed: int, args: argparse.Namespace) -> CfgNode:
    cfg = get_cfg()
    add_focal_retina_config(cfg)
    cfg.merge_from_file(model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"))
    cfg.merge_from_other_cfg(CfgNode.load_cfg(SMALL))
    cfg.MODEL.PROPOSAL_GENERATOR.NAME, cfg.MODEL.RPN.HEAD_NAME = stage
    cfg.MODEL.DEVICE = usable_device("MODEL.DEVICE", cfg.MODEL.DEVICE)
    cfg.SEED, cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = seed, args.iterations, ()
    cfg.OUTPUT_DIR = os.path.join(args.output, f"{stage[0]}-seed{seed}")
    cfg.merge_from_list(args.opts)
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    return cfg


def measure(cfg: CfgNode) -> tuple[float, float]:
    """Train, and return proposal recall at 100 and box AP, in percent."""
    seed_all_rng(cfg.SEED)
    evaluated, cfg.DATASETS.TEST = cfg.DATASETS.TEST, ()  # after training, not by its hook
    trainer = FocalTrainer(cfg)
    trainer.train()
    cfg.DATASETS.TEST = evaluated
    results = evaluate(settings_of(cfg), trainer.model)
    loader = build_detection_test_loader(cfg, evaluated[0])
    evaluator = COCOEvaluator(evaluated[0], output_dir=cfg.OUTPUT_DIR)
    recalls = inference_on_dataset(ProposalsOnly(trainer.model), loader, evaluator)
    return recalls["box_proposals"]["AR@100"], results["bbox"]["AP"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--images", type=int, default=2000, help="drawn for training")
    parser.add_argument("--output", default="output/first_stages")
    parser.add_argument("opts", nargs="*", default=[], help="KEY VALUE ...")
    args = parser.parse_args()
    register_shapes(args.output, train_images=args.images, val_images=max(1, args.images // 7))
    rows = [
        (name, seed, *measure(config((name, head), seed, args)))
        for seed in args.seeds
        for name, head in FIRST_STAGES
    ]
    print("| first stage | seed | AR@100 of proposals | box AP |\n|---|---|---|---|")
    for name, seed, recall, precision in rows:
        print(f"| {name} | {seed} | {recall:.1f} | {precision:.1f} |")


if __name__ == "__main__":
    main()
