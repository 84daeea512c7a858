"""Train a small RetinaNet on drawn shapes, evaluate it, and show what it sees.

    python -m focal_retina.tools.demo
    python -m focal_retina.tools.demo --output /tmp/demo SOLVER.MAX_ITER 100

No GPU, no download. The output folder then holds detections.png, loss_curve.png, the dataset
(shapes/, which the next run reuses) and what every training writes: log.txt, metrics.json, events
for TensorBoard, model_final.pth.
"""

import argparse
import contextlib
import itertools
import logging
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
from detectron2.data.detection_utils import read_image
from detectron2.engine import HookBase
from detectron2.utils.env import seed_all_rng
from tabulate import tabulate
from tqdm import tqdm

from focal_retina.data.shapes import register_shapes
from focal_retina.engine import FocalTrainer, job
from focal_retina.errors import TrainingError, UserError
from focal_retina.inference.drawing import draw_detections, write_curves, write_grid
from focal_retina.settings.run_settings import RunSettings
from focal_retina.tools.command_line import count, tool_parser

CONFIG_FILE = Path(__file__).parents[2] / "configs/shapes_focal_retinanet_R_18_FPN_demo.yaml"
LOSSES = ("total_loss", "loss_cls", "loss_box_reg")


def main(argv: list[str] | None = None) -> int:
    """Run the demo; return 0, or 2 after one sentence on what is wrong."""
    start = time.perf_counter()
    args = parse_arguments(argv)
    output = Path(args.output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        settings = load_config(args)
        log_into(output / "log.txt")
        trainer = build_trainer(settings)
    except (ValueError, OSError) as error:
        return fail(error)
    try:
        with open(output / "log.txt", "a") as log, contextlib.redirect_stdout(log):
            trainer.train()
    except TrainingError as error:
        return fail(error)
    write_pictures(trainer, output)
    print_results(trainer, output, time.perf_counter() - start)
    return 0


def fail(reason: object) -> int:
    """Print why the demo stops, and return the exit status."""
    print(f"demo: {reason}", file=sys.stderr)
    return 2


def log_into(path: Path) -> None:
    """Send what Detectron2 logs, and warnings, to a file: the console is for a few lines."""
    logging.basicConfig(filename=path, level=logging.INFO, force=True)
    logging.captureWarnings(True)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = tool_parser("demo", __doc__)
    parser.add_argument("--output", default="output/demo", help="folder (output/demo)")
    parser.add_argument("--config-file", default=str(CONFIG_FILE), help="the demo's own")
    parser.add_argument(
        "--train-images", type=count(), default=2000, help="how many to draw (2000)"
    )
    parser.add_argument("--val-images", type=count(), default=300, help="how many to draw (300)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys")
    return parser.parse_args(argv)


def load_config(args: argparse.Namespace) -> RunSettings:
    """Return the settings, with the datasets registered and on disk."""
    register_shapes(f"{args.output}/shapes", args.train_images, args.val_images)
    settings = job.load(args.config_file, [*args.opts, "OUTPUT_DIR", args.output])
    if len(settings.test_datasets) != 1:
        raise UserError(
            f"the demo needs one dataset in DATASETS.TEST, not {settings.test_datasets}"
        )
    for name in (*settings.train_datasets, *settings.test_datasets):
        print(f"dataset {name}:", end=" ", flush=True)
        print(len(DatasetCatalog.get(name)), "images")
    return settings


def build_trainer(settings: RunSettings) -> FocalTrainer:
    """Return the trainer, from a fixed seed and with a progress line."""
    seed_all_rng(settings.cfg.SEED)
    trainer = FocalTrainer(settings)
    trainer.register_hooks([ProgressLine()])
    return trainer


class ProgressLine(HookBase):
    """Iteration, speed, time left and loss, in one line."""

    def before_train(self):
        self.line = tqdm(total=self.trainer.max_iter, desc="training", unit="it")

    def after_step(self):
        loss = self.trainer.storage.history("total_loss").median(20)
        self.line.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self.line.update()
        if self.trainer.iter + 1 == self.trainer.max_iter:
            self.line.close()
            # stdout is redirected into the log while training
            print("evaluating ...", file=sys.stderr, flush=True)


def write_pictures(trainer: FocalTrainer, output: Path) -> None:
    """Write loss_curve.png and detections.png."""
    histories = {name: trainer.storage.history(name).values() for name in LOSSES}
    curves = {name: [value for value, _ in history] for name, history in histories.items()}
    write_curves(output / "loss_curve.png", curves)
    write_grid(output / "detections.png", detection_pictures(trainer, num_images=12), columns=4)


@torch.no_grad()
def detection_pictures(trainer: FocalTrainer, num_images: int) -> list[np.ndarray]:
    """Draw the detections with a score of at least 0.5 on the first held-out images."""
    name = trainer.cfg.DATASETS.TEST[0]
    class_names = MetadataCatalog.get(name).thing_classes
    trainer.model.eval()
    pictures = []
    for inputs in itertools.islice(build_detection_test_loader(trainer.cfg, name), num_images):
        instances = trainer.model(inputs)[0]["instances"]
        image = read_image(inputs[0]["file_name"], format="RGB")
        pictures.append(draw_detections(image, instances[instances.scores >= 0.5], class_names))
    return pictures


def print_results(trainer: FocalTrainer, output: Path, seconds: float) -> None:
    """Print the AP table, the AP of each class, where the pictures are, and the summary."""
    scalars = trainer.storage.latest()
    results = {k.removeprefix("bbox/"): v for k, (v, _) in scalars.items() if k.startswith("bbox/")}
    print_table({k: v for k, v in results.items() if not k.startswith("AP-")})
    print_table({k.removeprefix("AP-"): v for k, v in results.items() if k.startswith("AP-")})
    print(f"pictures: {output}/detections.png and {output}/loss_curve.png")
    print(f"box AP {results['AP']:.1f}, AP50 {results['AP50']:.1f} in {seconds:.0f} seconds")


def print_table(row: dict[str, float]) -> None:
    """Print one row; "-" is where COCO has no AP for want of objects, of a size for example."""
    cells = ["-" if math.isnan(value) else f"{value:.1f}" for value in row.values()]
    print(tabulate([cells], row.keys(), tablefmt="pipe", stralign="right"), "\n")


if __name__ == "__main__":
    sys.exit(main())
