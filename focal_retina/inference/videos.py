"""The files that a user's inputs name, and the frames of videos and cameras."""

import glob
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from focal_retina.errors import UserError

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif")
_VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")


def find_files(inputs: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Return pictures and videos in the order of the inputs, and a sentence for each without any.

    Args:
        inputs: files, folders (for the pictures and videos in them) and globs.
    """
    files, failures = [], []
    for name in inputs:
        if os.path.isdir(name):
            entries = sorted(str(p) for p in Path(name).iterdir())
            found = [p for p in entries if p.lower().endswith(_PICTURES + _VIDEOS)]
        else:
            found = [name] if os.path.isfile(name) else sorted(glob.glob(name, recursive=True))
        files += found
        if not found:
            failures.append(f"{name} does not exist, or has no pictures or videos")
    pictures = [x for x in files if not x.lower().endswith(_VIDEOS)]
    return pictures, [x for x in files if x.lower().endswith(_VIDEOS)], failures


class Video:
    """The frames of a video or camera, to iterate over once, each with a name, as RGB.

    Args:
        source: a file, or the number of a camera.
        max_frames: stop after so many frames; None for all. A camera goes on until Ctrl-C.

    Raises:
        UserError: the source cannot be opened or, when iterated over, gives no frame at all.
    """

    def __init__(self, source: str | int, max_frames: int | None = None):
        self.label = f"webcam{source}" if isinstance(source, int) else source
        self.name = Path(self.label).name
        self.max_frames = max_frames
        self._capture = cv2.VideoCapture(source)
        if not self._capture.isOpened():
            camera = f"camera {source} cannot be opened; give the number of one that is connected"
            raise UserError(camera if isinstance(source, int) else f"{source} cannot be opened")
        # A camera has no number of frames, and often no frame rate.
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.num_frames = min(x for x in (count, max_frames) if x) if count > 0 else max_frames
        self.frames_per_second = self._capture.get(cv2.CAP_PROP_FPS) or 25.0

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        try:
            for index in itertools.islice(itertools.count(), self.max_frames):
                is_read, frame = self._capture.read()
                if not is_read and index == 0:
                    raise UserError(f"{self.label} gives no frames")
                if not is_read:
                    return
                yield f"{self.label}#{index}", cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            self._capture.release()


def write_video(path: Path, frames: Iterable[np.ndarray], frames_per_second: float) -> None:
    """Write frames of one size, (H, W, 3), uint8, RGB, at least one, as an .mp4.

    The file holds the frames so far if ``frames`` raises an error.

    Raises:
        UserError: the file cannot be written.
    """
    frames = iter(frames)
    first = next(frames)
    codec = cv2.VideoWriter_fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), codec, frames_per_second, first.shape[1::-1])
    if not writer.isOpened():
        raise UserError(f"{path} cannot be written")
    try:
        for frame in itertools.chain([first], frames):
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()
