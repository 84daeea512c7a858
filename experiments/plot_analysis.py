"""Draw the paper's figures of the losses: 1, 4, and 5 to 7 of the appendix.

    python -m experiments.plot_analysis
    python -m experiments.plot_analysis --config-file X.yaml MODEL.WEIGHTS model_final.pth

Run this from the checkout. Without a config it draws the figures that need no model. Figure 4 takes
any checkpoint of FocalRetinaNet and the first dataset of DATASETS.TEST, and prints what the paper
reads from it. Figure 2 is part of the report of experiments.paper_tables.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper, get_detection_dataset_dicts

from experiments.paper.loss_curves import draw_loss_figures
from experiments.paper.loss_shares import (
    NUM_BACKGROUND,
    NUM_FOREGROUND,
    draw_loss_shares,
    facts,
    sample_logits,
)
from experiments.paper.trained_model import load_config, load_model
from focal_retina.config import has_background_logit
from focal_retina.data.mapper import ResizeShortestEdge
from focal_retina.errors import UserError, reports_errors
from focal_retina.tools.command_line import (
    add_config_arguments,
    count,
    make_output_folder,
    tool_parser,
)


@reports_errors("plot_analysis")
def main(argv: list[str] | None = None) -> int:
    """Return 0, or 2 after one sentence on what is wrong with the arguments."""
    args = parse_arguments(argv)
    output = make_output_folder(args.output)
    paths = draw_loss_figures(output)
    if args.config_file:
        paths.append(draw_figure_4(args, output / "figure_4.png"))
    print("\n".join(map(str, paths)))
    return 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = tool_parser("plot_analysis", __doc__, "experiments")
    parser.add_argument("--output", default="output/analysis", help="folder (output/analysis)")
    add_config_arguments(parser, help="YAML config of a model, for Figure 4")
    parser.add_argument("--max-images", type=count(), help="of the dataset (all)")
    parser.add_argument(
        "--foreground", type=count(), default=NUM_FOREGROUND, help="size of its sample (1e5)"
    )
    parser.add_argument(
        "--background", type=count(), default=NUM_BACKGROUND, help="size of its sample (1e7)"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys")
    return parser.parse_args(argv)


def draw_figure_4(args: argparse.Namespace, path: Path) -> Path:
    """Draw the samples of a model's predictions, and print the facts."""
    cfg = load_config(args.config_file, args.opts, args.trust_config)
    if not cfg.MODEL.WEIGHTS:
        raise UserError("MODEL.WEIGHTS is empty; name a checkpoint of a trained model")
    if cfg.MODEL.META_ARCHITECTURE != "FocalRetinaNet" or has_background_logit(cfg):
        raise UserError("Figure 4 needs a FocalRetinaNet with a sigmoid loss")
    inputs = itertools.islice(labelled_images(cfg), args.max_images)
    samples = sample_logits(load_model(cfg), inputs, args.foreground, args.background)
    if not all(len(sample) for sample in samples):
        raise UserError(f"dataset {cfg.DATASETS.TEST[0]} gives no foreground or no background")
    print("\n".join(facts(*samples)))
    draw_loss_shares(*samples, path)
    return path


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
