"""Detect on pictures, folders, globs, videos or a webcam.

    python -m focal_retina.tools.predict --config-file output/config.yaml \\
        --weights output/model_final.pth --output output/predictions street.jpg 'photos/*.png' a.mp4

The output folder then holds every picture and video with its detections drawn, and in COCO's format
predictions.json, with all detections above the evaluation's threshold, and images.json, what they
refer to: COCO("images.json").loadRes("predictions.json").
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from focal_retina.inference.coco_results import Predictions
from focal_retina.inference.drawing import draw_detections
from focal_retina.inference.predictor import Predictor, read_picture
from focal_retina.inference.videos import Video, VideoWriter, expand, is_video
from focal_retina.tools.command_line import (
    add_detector_arguments,
    count,
    mistakes_in_one_sentence,
    share,
    tool_parser,
)


@mistakes_in_one_sentence("predict")
def main(argv: list[str] | None = None) -> int:
    """Predict; return 0, 1 where a file could not be read, 2 after a sentence on what is wrong."""
    args = parse_arguments(argv)
    files, failures = expand(args.inputs)
    if not files and not failures and args.webcam is None:
        raise ValueError("nothing to predict on; name pictures, folders, globs or videos")
    predictor = Predictor(args.config_file, args.weights, args.opts)
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    predictions = Predictions(predictor.class_names, predictor.category_ids)
    run = Run(predictor, predictions, output, args)
    failures += run.pictures([x for x in files if not is_video(x)])
    videos = [x for x in files if is_video(x)] + ([] if args.webcam is None else [args.webcam])
    failures += [message for video in videos for message in run.video(video)]
    predictions.write(output)
    for message in failures:
        print(f"predict: {message}", file=sys.stderr)
    print(f"{predictions.summary()}: {output}")
    return 1 if failures else 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = tool_parser("predict", __doc__)
    parser.add_argument("inputs", nargs="*", help="pictures, folders, globs and videos")
    add_detector_arguments(parser)
    parser.add_argument("--output", default="output/predictions", help="folder")
    parser.add_argument("--webcam", type=count(0), metavar="N", help="the camera's number, often 0")
    parser.add_argument("--max-frames", type=count(), help="stop a video or webcam after so many")
    parser.add_argument("--batch-size", type=count(), default=1, help="pictures at a time (1)")
    parser.add_argument(
        "--draw-thresh", type=share(), default=0.5, help="draw from this score (0.5)"
    )
    return parser.parse_args(argv)


class Run:
    """One call of the tool: predict, draw, and collect, batch by batch.

    Args:
        predictor, predictions: what detects, and what collects.
        output: folder of the drawn pictures.
        args: the command line's.
    """

    def __init__(
        self, predictor: Predictor, predictions: Predictions, output: Path, args: argparse.Namespace
    ):
        self.predictor = predictor
        self.predictions = predictions
        self.output = output
        self.args = args

    def pictures(self, paths: list[str]) -> list[str]:
        """Predict on picture files; return a sentence for each that failed."""
        failures: list[str] = []
        readable = _readable(tqdm(paths, unit="picture", disable=not paths), failures)
        for name, image_id, drawn in self.detect(readable):
            target = self.output / f"{image_id:06d}_{Path(name).stem}.jpg"
            if not cv2.imwrite(str(target), drawn[:, :, ::-1]):
                failures.append(f"{target} cannot be written")
        return failures

    def video(self, source: str | int) -> list[str]:
        """Predict on a video file or camera; return a sentence if it failed."""
        try:
            with Video(source, self.args.max_frames) as video:
                first_id = len(self.predictions.images) + 1
                target = self.output / f"{first_id:06d}_{Path(video.name).stem}.mp4"
                with VideoWriter(target, video.frames_per_second) as writer:
                    frames = tqdm(video, total=video.num_frames, desc=video.name, unit="frame")
                    for _, _, drawn in self.detect(frames):
                        writer.write(drawn)
        except ValueError as error:
            return [str(error)]
        except KeyboardInterrupt:
            if not isinstance(source, int):
                raise
        return []  # a camera ends with Ctrl-C, and what it saw is kept

    def detect(
        self, images: Iterable[tuple[str, np.ndarray]]
    ) -> Iterator[tuple[str, int, np.ndarray]]:
        """Yield name, id and picture with its detections, for named RGB images."""
        for batch in _batches(images, self.args.batch_size):
            detections = self.predictor([image for _, image in batch])
            for (name, image), instances in zip(batch, detections, strict=True):
                image_id = self.predictions.add(name, instances)
                shown = instances[instances.scores >= self.args.draw_thresh]
                names = self.predictor.class_names
                yield name, image_id, draw_detections(image, shown, names, scale=1, font_size=12)


def _readable(paths: Iterable[str], failures: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    for path in paths:
        try:
            yield path, read_picture(path)
        except ValueError as error:
            failures.append(str(error))


def _batches(items: Iterable, size: int) -> Iterator[list]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


if __name__ == "__main__":
    sys.exit(main())
