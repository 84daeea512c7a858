"""Train a small RetinaNet on drawn shapes, evaluate it, and show what it detects.

    python -m focal_retina.tools.demo
    python -m focal_retina.tools.demo --output /tmp/demo SOLVER.MAX_ITER 100

No GPU, no download. The output folder then holds detections.png, loss_curve.png, the dataset
(shapes/, which the next run reuses) and what every training writes: log.txt, metrics.json, events
for TensorBoard, model_final.pth.
"""

import argparse
import contextlib
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.engine import HookBase
from detectron2.utils.env import seed_all_rng
from tabulate import tabulate
from tqdm import tqdm

from focal_retina.data.shapes import register_shapes
from focal_retina.engine import FocalTrainer, job
from focal_retina.errors import UserError, reports_errors
from focal_retina.inference.drawing import draw_detections, write_curves, write_grid
from focal_retina.inference.fonts import label_font
from focal_retina.inference.predictor import Predictor, read_picture
from focal_retina.settings.run_settings import RunSettings
from focal_retina.terminal import printable
from focal_retina.tools import command_line as cli

CONFIG_FILE = Path(__file__).parents[2] / "configs/shapes_focal_retinanet_R_18_FPN_demo.yaml"
_SCALE = 2.5  # of the pictures


@reports_errors("demo")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; return 0, 2 for a user's mistake, or 3 if the training cannot go on."""
    start = time.perf_counter()
    args = parse_arguments(argv)
    output = cli.make_output_folder(args.output)
    register_shapes(f"{output}/shapes", args.train_images, args.val_images)
    args.opts += ["OUTPUT_DIR", str(output)]
    settings = load_settings(args)
    names = "detections.png", "loss_curve.png", "log.txt", "model_final.pth"
    pictures = [x["file_name"] for x in DatasetCatalog.get(settings.test_datasets[0])]
    read = [settings.weights, *pictures, *cli.files_read(args.config_file, args.trust_config)]
    cli.refuse_inputs(output, names, read)
    storage = train(settings, output / "log.txt").storage
    losses = ("total_loss", "loss_cls", "loss_box_reg")
    histories = {name: storage.history(name).values() for name in losses}
    write_curves(output / "loss_curve.png", {k: [x for x, _ in v] for k, v in histories.items()})
    weights = output / "model_final.pth"
    predictor = Predictor(args.config_file, weights, args.opts, trust_config=args.trust_config)
    write_grid(output / "detections.png", draw_pictures(predictor, pictures[:12]), columns=4)
    print(f"pictures: {output}/detections.png and {output}/loss_curve.png")
    # COCO's results; nan stands where there is no such object.
    scalars = {name: value for name, (value, _) in storage.latest().items()}
    results = {k.removeprefix("bbox/"): v for k, v in scalars.items() if k.startswith("bbox/")}
    print(tabulate(results.items(), tablefmt="simple", floatfmt=".1f"))
    seconds = time.perf_counter() - start
    print(f"box AP {results['AP']:.1f}, AP50 {results['AP50']:.1f} in {seconds:.0f} seconds")
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.tool_parser("demo", __doc__)
    parser.add_argument("--output", default="output/demo", help="folder (output/demo)")
    cli.add_config_arguments(parser, default=str(CONFIG_FILE), help="the demo's own")
    parser.add_argument("--train-images", type=cli.count(), default=2000, help="to draw (2000)")
    parser.add_argument("--val-images", type=cli.count(), default=300, help="to draw (300)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys")
    return parser.parse_args(argv)


def load_settings(args: argparse.Namespace) -> RunSettings:
    """Return the settings of the run; the datasets that they name are drawn."""
    settings = job.load(args.config_file, args.opts, trust_config=args.trust_config)
    tests = settings.test_datasets
    if len(tests) != 1:
        raise UserError(f"the demo needs one dataset in DATASETS.TEST, not {tests}")
    for name in (*settings.train_datasets, *tests):
        print(f"dataset {printable(name)}:", end=" ", flush=True)
        print(len(DatasetCatalog.get(name)), "images")
    return settings


def train(settings: RunSettings, log_file: Path) -> FocalTrainer:
    """Train and evaluate, from a fixed seed; return the trainer.

    What Detectron2 logs and prints goes to the file, since the console shows only a few lines.
    """
    logging.basicConfig(filename=log_file, level=logging.INFO, force=True)
    logging.captureWarnings(True)
    seed_all_rng(settings.cfg.SEED)
    trainer = FocalTrainer(settings)
    trainer.register_hooks([ProgressLine()])
    with open(log_file, "a") as log, contextlib.redirect_stdout(log):
        trainer.train()
    return trainer


class ProgressLine(HookBase):
    """Shows iteration, speed, time left and loss in one line."""

    def before_train(self):
        self.line = tqdm(total=self.trainer.max_iter, desc="training", unit="it")

    def after_step(self):
        loss = self.trainer.storage.history("total_loss").median(20)
        self.line.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self.line.update()
        if self.trainer.iter + 1 == self.trainer.max_iter:
            self.line.close()
            print("evaluating ...", file=sys.stderr, flush=True)  # stdout goes to the log


def draw_pictures(predictor: Predictor, files: Sequence[str]) -> list[np.ndarray]:
    """Draw the detections with a score of at least 0.5 on pictures, enlarged."""
    pictures, font = [], label_font(predictor.class_names)
    for file in files:
        (instances,) = predictor([file])
        instances = instances[instances.scores >= 0.5]
        instances.pred_boxes.scale(_SCALE, _SCALE)
        image = cv2.resize(read_picture(file), None, fx=_SCALE, fy=_SCALE)
        pictures.append(draw_detections(image, instances, predictor.class_names, font))
    return pictures


if __name__ == "__main__":
    sys.exit(main())
