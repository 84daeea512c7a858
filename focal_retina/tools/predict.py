"""Detect objects in pictures, folders, globs, videos or the frames of a webcam.

    python -m focal_retina.tools.predict --config-file output/config.yaml \\
        --weights output/model_final.pth --output output/predictions street.jpg 'photos/*.png' a.mp4

The output folder then holds every picture and video with its detections drawn, and two files in
COCO's format: predictions.json has all detections above the evaluation's threshold, images.json
has the images that they are of. COCO("images.json").loadRes("predictions.json") reads both.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from focal_retina.errors import ImageError, UserError, reports_errors
from focal_retina.inference.coco_results import CocoResults
from focal_retina.inference.drawing import draw_detections
from focal_retina.inference.predictor import Predictor, read_picture
from focal_retina.inference.videos import Video, find_files, write_video
from focal_retina.tools import command_line as cli


@reports_errors("predict")
def main(argv: Sequence[str] | None = None) -> int:
    """Predict; return 0, 1 if a file could not be read or written, 2 for a user's mistake."""
    args = parse_arguments(argv)
    pictures, videos, failures = find_files(args.inputs)
    if not (pictures or videos or failures or args.webcam):
        raise UserError("nothing to predict on; name pictures, folders, globs or videos")
    run = Run(args, failures)
    run.pictures(pictures)
    for source in [*videos, *args.webcam]:
        run.video(source)
    results, output = run.results, run.output
    results.write(output)
    for failure in failures:
        print(f"predict: error: {failure}", file=sys.stderr)
    print(f"{len(results.detections)} detections on {len(results.images)} images: {output}")
    return 1 if failures else 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.tool_parser("predict", __doc__)
    parser.add_argument("inputs", nargs="*", help="pictures, folders, globs and videos")
    cli.add_detector_arguments(parser)
    parser.add_argument("--output", default="output/predictions", help="folder")
    camera = {"type": cli.count(0), "nargs": 1, "default": [], "metavar": "N"}
    parser.add_argument("--webcam", **camera, help="the camera's number, often 0")
    parser.add_argument("--max-frames", type=cli.count(), help="of a video or camera (all)")
    parser.add_argument("--batch-size", type=cli.count(), default=1, help="pictures at a time (1)")
    parser.add_argument("--draw-thresh", type=cli.share(), default=0.5, help="least score (0.5)")
    return parser.parse_args(argv)


class Run:
    """Predicts on the inputs, draws the detections and collects them.

    ``failures`` gets a sentence for each file that cannot be read or written.
    """

    def __init__(self, args: argparse.Namespace, failures: list[str]):
        self.args, self.failures = args, failures
        self.predictor = Predictor(
            args.config_file, args.weights, args.opts, trust_config=args.trust_config
        )
        self.output = cli.make_output_folder(args.output)
        self.results = CocoResults(self.predictor.class_names, self.predictor.category_ids)

    def pictures(self, paths: Sequence[str]) -> None:
        """Predict on picture files."""
        for drawn in self._draw(self._read(tqdm(paths, unit="picture", disable=not paths))):
            image = self.results.images[-1]
            target = self.output / f"{image['id']:06d}_{Path(image['file_name']).stem}.jpg"
            if not cv2.imwrite(str(target), drawn[:, :, ::-1]):
                self.failures.append(f"{target} cannot be written")

    def video(self, source: str | int) -> None:
        """Predict on a video file or a camera."""
        try:
            video = Video(source, self.args.max_frames)
            target = f"{len(self.results.images) + 1:06d}_{Path(video.name).stem}.mp4"
            frames = tqdm(video, total=video.num_frames, desc=video.name, unit="frame")
            write_video(self.output / target, self._draw(frames), video.frames_per_second)
        except UserError as error:
            self.failures.append(str(error))
        except KeyboardInterrupt:  # ends a camera; the frames so far are kept
            if not isinstance(source, int):
                raise

    def _read(self, paths: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        for path in paths:
            try:
                yield path, read_picture(path)
            except ImageError as error:
                self.failures.append(str(error))

    def _draw(self, images: Iterable[tuple[str, np.ndarray]]) -> Iterator[np.ndarray]:
        """Yield named RGB images with their detections, each when it is the last result."""
        names, images = self.predictor.class_names, iter(images)
        while batch := list(islice(images, self.args.batch_size)):
            detections = self.predictor([image for _, image in batch])
            for (name, image), instances in zip(batch, detections, strict=True):
                self.results.add(name, instances)
                drawn = instances[instances.scores >= self.args.draw_thresh]
                yield draw_detections(image, drawn, names, scale=1, font_size=12)


if __name__ == "__main__":
    sys.exit(main())
