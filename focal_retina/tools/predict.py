"""Detect objects in pictures, folders, globs, videos or the frames of a webcam.

    python -m focal_retina.tools.predict --config-file output/config.yaml \\
        --weights output/model_final.pth --output output/predictions street.jpg 'photos/*.png' a.mp4

The output folder then holds every picture and video with its detections drawn, and two files in
COCO's format: predictions.json has all detections above the evaluation's threshold, images.json
has the images that they are of. COCO("images.json").loadRes("predictions.json") reads both. Until
the end they are called unfinished_predictions.json and unfinished_images.json; both are whole after
each image, so that nothing is lost if the program is killed.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from detectron2.structures import Instances
from tqdm import tqdm

from focal_retina.errors import ImageError, UserError, report, reports_errors
from focal_retina.inference.coco_results import CocoResults
from focal_retina.inference.drawing import draw_detections, write_picture
from focal_retina.inference.files import find_files
from focal_retina.inference.fonts import label_font
from focal_retina.inference.predictor import Predictor, read_picture
from focal_retina.inference.videos import Video, write_video
from focal_retina.terminal import printable
from focal_retina.tools import command_line as cli

_LONGEST_STEM = 200  # bytes
_LARGEST_JPEG = 65_500  # pixels, a side

Picture = tuple[str, np.ndarray]  # a file or frame, and its image, (H, W, 3), uint8, RGB


@reports_errors("predict")
def main(argv: Sequence[str] | None = None) -> int:
    """Predict; return 0, 1 if a file could not be read, 2 for a mistake or a full disk."""
    args = parse_arguments(argv)
    pictures, videos, failures, left_out = find_files(args.inputs)
    for sentence in left_out:
        print(f"predict: left out: {printable(sentence)}", file=sys.stderr)
    if not (pictures or videos or failures or args.webcam):
        raise UserError("nothing to predict on; name pictures, folders, globs or videos")
    run = Run(args, [*pictures, *videos], failures)
    try:
        run.pictures(pictures)
        for source in [*videos, *args.webcam]:
            run.video(source)
    finally:
        run.finish()
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
    parser.add_argument("--font", metavar="FILE", help="of class names (one that has the letters)")
    parser.add_argument("--no-draw", action="store_true", help="write no pictures and videos")
    return parser.parse_args(argv)


class Run:
    """Predicts on the inputs, draws the detections and writes them.

    ``failures`` gets a sentence for each file that cannot be used.
    """

    def __init__(self, args: argparse.Namespace, inputs: Sequence[str], failures: list[str]):
        self.args, self.failures = args, failures
        self.predictor = Predictor(
            args.config_file, args.weights, args.opts, trust_config=args.trust_config
        )
        classes = self.predictor.class_names
        self.font = "" if args.no_draw else label_font(classes, args.font)
        self.output = cli.make_output_folder(args.output)
        for folder in {os.path.dirname(os.path.abspath(path)) for path in inputs}:
            if os.path.samefile(folder, self.output):
                raise UserError(f"--output {args.output} has inputs in it: name another folder")
        names = "images.json", "predictions.json"
        cli.refuse_inputs(self.output, names, cli.files_read(args.config_file, args.trust_config))
        self.results = CocoResults(self.output, classes, self.predictor.category_ids)

    def pictures(self, paths: Sequence[str]) -> None:
        """Predict on picture files."""
        progress = tqdm(paths, unit="picture", disable=None if paths else True)
        for image_id, (name, image) in self._drawn(self._read(progress)):
            if not self.args.no_draw:
                suffix = ".jpg" if max(image.shape) <= _LARGEST_JPEG else ".png"
                with self._noting_memory_errors(name):
                    write_picture(self._target(image_id, name, suffix), image)

    def video(self, source: str | int) -> None:
        """Predict on a video file or a camera."""
        try:
            video = Video(source, self.args.max_frames)
        except UserError as error:
            self.failures.append(str(error))
            return
        title = printable(video.name)
        progress = tqdm(video, total=video.num_frames, desc=title, unit="frame", disable=None)
        target = self._target(self.results.images.count + 1, video.name, ".mp4")
        frames = (image for _, (_, image) in self._drawn(progress))
        try:
            if self.args.no_draw:
                for _ in frames:
                    pass
            else:
                write_video(target, frames, video.frames_per_second)
        except KeyboardInterrupt:  # ends a camera
            if not isinstance(source, int):
                raise

    def finish(self) -> None:
        """Name the results and what failed."""
        self.results.finish()
        for failure in self.failures:
            report(UserError(failure), "predict")
        images, detections = self.results.images.count, self.results.detections.count
        print(printable(f"{detections} detections on {images} images: {self.output}"))

    def _target(self, image_id: int, name: str, suffix: str) -> Path:
        """Return where to write a picture or video, a name that disks and terminals take."""
        stem = os.fsencode(Path(name).stem)[:_LONGEST_STEM].decode(errors="ignore")
        stem = os.fsdecode("".join(filter(str.isprintable, stem)).encode())
        return self.output / f"{image_id:06d}_{stem}{suffix}"

    def _read(self, paths: Iterable[str]) -> Iterator[Picture]:
        for path in paths:
            try:
                yield path, read_picture(path)
            except ImageError as error:
                self.failures.append(str(error))

    def _drawn(self, pictures: Iterable[Picture]) -> Iterator[tuple[int, Picture]]:
        """Yield pictures with their detections, and ids, when their results are written."""
        pictures, names = iter(pictures), self.predictor.class_names
        while batch := list(islice(pictures, self.args.batch_size)):
            for (name, image), instances in self._predict(batch):
                image_id = self.results.add(name, instances)
                if not self.args.no_draw:
                    drawn = instances[instances.scores >= self.args.draw_thresh]
                    image = draw_detections(image, drawn, names, self.font)
                yield image_id, (name, image)

    def _predict(self, batch: Sequence[Picture]) -> Iterator[tuple[Picture, Instances]]:
        """Yield the pictures that fit into memory, at last one by one, with their detections."""
        found, failures = None, len(self.failures)
        with self._noting_memory_errors(batch[0][0]):
            found = self.predictor([image for _, image in batch])
        if found is not None:
            yield from zip(batch, found, strict=True)
        elif len(batch) > 1:
            del self.failures[failures:]
            for picture in batch:
                yield from self._predict([picture])

    @contextlib.contextmanager
    def _noting_memory_errors(self, name: str) -> Iterator[None]:
        """Let a picture that is too large for the memory be a failure."""
        try:
            yield
        # NumPy's, PyTorch's and OpenCV's
        except (MemoryError, RuntimeError, cv2.error) as error:
            if not isinstance(error, MemoryError) and "allocate" not in str(error):
                raise
            reason = str(error).partition("\n")[0]
            self.failures.append(f"{name} needs more memory than there is: {reason}")


if __name__ == "__main__":
    sys.exit(main())
