"""The frames of videos and cameras, and videos of frames."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from focal_retina.errors import UserError
from focal_retina.files import output


class Video:
    """The frames of a video or camera, to iterate over once, each with a name, as RGB.

    Args:
        source: a file, or the number of a camera.
        max_frames: stop after so many frames; None for all. A camera goes on until Ctrl-C.

    Raises:
        UserError: the source cannot be opened, or gives no frame at all.
    """

    def __init__(self, source: str | int, max_frames: int | None = None):
        self.label = f"webcam{source}" if isinstance(source, int) else source
        self.name = Path(self.label).name
        self.max_frames = max_frames
        self._capture = cv2.VideoCapture(source if isinstance(source, int) else _utf8(source))
        if not self._capture.isOpened():
            camera = f"camera {source} cannot be opened; give the number of one that is connected"
            raise UserError(camera if isinstance(source, int) else f"{source} cannot be opened")
        self._first = self._capture.read()
        if not self._first[0]:
            raise UserError(f"{self.label} gives no frames")
        # A camera has no number of frames, and often no frame rate.
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.num_frames = min(x for x in (count, max_frames) if x) if count > 0 else max_frames
        self.frames_per_second = self._capture.get(cv2.CAP_PROP_FPS) or 25.0

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        try:
            for index in itertools.islice(itertools.count(), self.max_frames):
                is_read, frame = self._capture.read() if index else self._first
                if not is_read:
                    return
                yield f"{self.label}#{index}", cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            self._capture.release()


def write_video(path: Path, frames: Iterable[np.ndarray], frames_per_second: float) -> None:
    """Write frames of one size, (H, W, 3), uint8, RGB, at least one, as a whole .mp4.

    The file holds the frames so far if Ctrl-C ends them.

    Raises:
        UserError: the file cannot be written, or read again.
    """
    frames = iter(frames)
    if (first := next(frames, None)) is None:
        raise UserError(f"{path} cannot be written: it would have no frame")
    codec = cv2.VideoWriter_fourcc(*"mp4v")
    size, written, interrupt = first.shape[1::-1], 0, None
    with output(path) as unfinished:
        writer = cv2.VideoWriter(_utf8(unfinished), codec, frames_per_second, size)
        try:
            for frame in itertools.chain([first], frames):
                writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
                written += 1
        except KeyboardInterrupt as error:
            interrupt = error
        finally:
            writer.release()
        # OpenCV does not say that a disk is full, or frames too large for the codec.
        if (readable := _count_frames(unfinished)) != written:
            raise UserError(f"{path} cannot be written: {readable} of {written} frames are there")
    if interrupt:
        raise interrupt


def _count_frames(path: str) -> int:
    """Return how many frames of a video can be read."""
    capture = cv2.VideoCapture(path)
    count = sum(1 for _ in iter(capture.grab, False))
    capture.release()
    return count


def _utf8(path: str) -> str:
    """Return a path; raise a UserError if OpenCV would crash at it."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{path}: OpenCV takes a video only by a name in UTF-8") from error
    return path
