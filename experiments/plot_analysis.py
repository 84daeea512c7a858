"""Draw the paper's figures of the losses: 1, 4, and 5 to 7 of the appendix.

    python -m experiments.plot_analysis
    python -m experiments.plot_analysis --config-file X.yaml MODEL.WEIGHTS model_final.pth

Without a config only those that need no model. Figure 4 takes any checkpoint of FocalRetinaNet and
the dataset that DATASETS.TEST names first; its two facts are printed. Figure 2 is part of the
report of experiments.paper_tables.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper, get_detection_dataset_dicts
from detectron2.modeling import build_model

from experiments.paper.loss_curves import draw_loss_figures
from experiments.paper.loss_shares import (
    NUM_BACKGROUND,
    NUM_FOREGROUND,
    draw_loss_shares,
    facts,
    sample_logits,
)
from focal_retina import FocalRetinaNet
from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.config import has_background_logit
from focal_retina.data.mapper import ResizeShortestEdge
from focal_retina.engine import yaml_job
from focal_retina.errors import reports_errors
from focal_retina.settings.checks import weights_errors
from focal_retina.tools.command_line import count, tool_parser


@reports_errors("plot_analysis")
def main(argv: list[str] | None = None) -> int:
    """Return 0, or 2 after one sentence on what is wrong with the arguments."""
    args = parse_arguments(argv)
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    paths = draw_loss_figures(output)
    if args.config_file:
        paths.append(draw_figure_4(args, output / "figure_4.png"))
    print("\n".join(map(str, paths)))
    return 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = tool_parser("plot_analysis", __doc__, "experiments")
    parser.add_argument("--output", default="output/analysis", help="folder (output/analysis)")
    parser.add_argument("--config-file", help="of the model, a YAML, for Figure 4")
    parser.add_argument("--max-images", type=count(), help="of the dataset (all)")
    parser.add_argument("--foreground", type=count(), default=NUM_FOREGROUND, help="sample (1e5)")
    parser.add_argument("--background", type=count(), default=NUM_BACKGROUND, help="sample (1e7)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys")
    return parser.parse_args(argv)


def draw_figure_4(args: argparse.Namespace, path: Path) -> Path:
    """Sample a model's predictions, draw them and print the facts."""
    job = argparse.Namespace(
        config_file=args.config_file, opts=args.opts, trust_config=False, eval_only=True
    )
    cfg = yaml_job.load(job)
    model = load_model(cfg)
    inputs = itertools.islice(labelled_images(cfg), args.max_images)
    foreground, background = sample_logits(model, inputs, args.foreground, args.background)
    if not len(foreground) or not len(background):
        raise ValueError(f"dataset {cfg.DATASETS.TEST[0]} gives no foreground or no background")
    print("\n".join(facts(foreground, background)))
    draw_loss_shares(foreground, background, path)
    return path


def load_model(cfg: CfgNode) -> FocalRetinaNet:
    """Return the model with its weights; ValueError where Figure 4 cannot be drawn of it."""
    if not cfg.MODEL.WEIGHTS:
        raise ValueError("MODEL.WEIGHTS is empty; name a checkpoint of a trained model")
    model = build_model(cfg)
    if not isinstance(model, FocalRetinaNet) or has_background_logit(cfg):
        raise ValueError("Figure 4 needs a FocalRetinaNet with a sigmoid loss")
    with weights_errors("MODEL.WEIGHTS", cfg.MODEL.WEIGHTS):
        FocalCheckpointer(model, complete=True).load(cfg.MODEL.WEIGHTS)
    return model


def labelled_images(cfg: CfgNode) -> Iterator[dict]:
    """Yield the images of the first test dataset at test size, with their objects."""
    resize = ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    mapper = DatasetMapper(
        is_train=True,
        augmentations=[resize],
        image_format=cfg.INPUT.FORMAT,
        use_instance_mask=False,
    )
    return map(mapper, get_detection_dataset_dicts(cfg.DATASETS.TEST[0], filter_empty=False))


if __name__ == "__main__":
    sys.exit(main())
