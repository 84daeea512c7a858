"""Where pictures come from: files, folders, globs, videos, cameras; and videos to write."""

import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif")
_VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")


def is_video(path: str) -> bool:
    return path.lower().endswith(_VIDEOS)


def expand(inputs: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the files that are meant, in order, and a sentence for each input that names none.

    Args:
        inputs: files; folders, for the pictures and videos in them; globs.
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
    return files, failures


class Video:
    """Named RGB frames of a video or camera; with ``with``, which lets go of it.

    Args:
        source: a file, or the number of a camera.
        max_frames: stop after so many; None for all. A camera goes on until Ctrl-C.

    Raises:
        ValueError: it cannot be opened, or gives no frame at all.
    """

    def __init__(self, source: str | int, max_frames: int | None = None):
        self.label = f"webcam{source}" if isinstance(source, int) else source
        self.name = Path(self.label).name
        self.max_frames = max_frames
        self._capture = cv2.VideoCapture(source)
        if not self._capture.isOpened():
            camera = f"camera {source} cannot be opened; give the number of one that is connected"
            raise ValueError(camera if isinstance(source, int) else f"{source} cannot be opened")
        # A camera has no number of frames, and often no rate.
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.num_frames = min(x for x in (count, max_frames) if x) if count > 0 else max_frames
        self.frames_per_second = self._capture.get(cv2.CAP_PROP_FPS) or 25.0

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_) -> None:
        self._capture.release()

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        for index in itertools.islice(itertools.count(), self.max_frames):
            is_read, frame = self._capture.read()
            if not is_read and index == 0:
                raise ValueError(f"{self.label} gives no frames")
            if not is_read:
                return
            yield f"{self.label}#{index}", cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


class VideoWriter:
    """Writes RGB frames of one size as MPEG-4; the first decides the size.

    Args:
        path: an .mp4.
        frames_per_second: above 0.
    """

    def __init__(self, path: Path, frames_per_second: float):
        self.path = path
        self.frames_per_second = frames_per_second
        self._writer = None

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *_) -> None:
        if self._writer is not None:
            self._writer.release()

    def write(self, frame: np.ndarray) -> None:
        """Write a frame (H, W, 3), uint8; raise a ValueError where the file cannot be written."""
        if self._writer is None:
            codec = cv2.VideoWriter_fourcc(*"mp4v")
            size = frame.shape[1::-1]
            self._writer = cv2.VideoWriter(str(self.path), codec, self.frames_per_second, size)
            if not self._writer.isOpened():
                raise ValueError(f"{self.path} cannot be written")
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
