"""Detectron2's writers of metrics, which go on after a resume as if nothing had happened."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detectron2.utils.events import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
from detectron2.utils.file_io import PathManager

from focal_retina import detectron2_internals as internals
from focal_retina.files import write_atomically
from focal_retina.run_files import spared

logger = logging.getLogger(__name__)


def resumable_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """Return the writers of Detectron2's ``default_writers``, with a state to save.

    A disk that refuses them is an error in the log, and the training goes on.
    """
    PathManager.mkdirs(output_dir)
    return [
        CommonMetricPrinter(max_iter),
        ResumableJSONWriter(os.path.join(output_dir, "metrics.json")),
        ResumableTensorboardXWriter(output_dir),
    ]


class ResumableJSONWriter(JSONWriter):
    """Cut off, on resuming, the lines of iterations that will come again."""

    def write(self) -> None:
        with spared(internals.open_file_of(self).name, is_whole=False):
            super().write()

    def close(self) -> None:
        with spared(internals.open_file_of(self).name, is_whole=False):
            super().close()

    def state_dict(self) -> dict:
        """Return the last iteration that was written, and how long the file is, in bytes."""
        path = internals.open_file_of(self).name
        size = os.path.getsize(path) if os.path.isfile(path) else 0
        return {"last_write": internals.last_write(self), "size": size}

    def load_state_dict(self, state: dict, kept: int | None = None) -> None:
        """Go back to a state.

        Args:
            kept: None to cut off all that was written after the state; the iteration that comes
                next to keep what was written up to it, as the final evaluation of a shorter run.
        """
        internals.set_last_write(self, state["last_write"] if kept is None else kept - 1)
        path = internals.open_file_of(self).name
        size = state["size"]
        if not os.path.isfile(path):  # it could not be opened, which the log has told
            return
        if not 0 <= size <= os.path.getsize(path):
            logger.warning(f"{path} is not the file that the checkpoint knows: nothing is cut off.")
            return
        if kept is not None:
            size += _size_up_to(path, size, kept)
        with spared(path):
            # In one step, in the file that is open for appending.
            os.truncate(path, size)

    def restart(self) -> None:
        """Begin anew; what the file holds is kept beside it, as metrics.json.before."""
        path = internals.open_file_of(self).name
        if not os.path.isfile(path):
            return
        with spared(f"{path}.before"):
            if content := Path(path).read_bytes():
                write_atomically(f"{path}.before", content)
            os.truncate(path, 0)


class ResumableTensorboardXWriter(TensorboardXWriter):
    """Let TensorBoard, after a resume, hide the events of iterations that come again."""

    def write(self) -> None:
        with self._new_file_after_errors():
            super().write()

    def close(self) -> None:
        with self._new_file_after_errors():
            super().close()

    @contextmanager
    def _new_file_after_errors(self) -> Iterator[None]:
        with spared("events for TensorBoard"):
            try:
                yield
            except OSError:
                # The thread behind it has ended, and would repeat the error for ever.
                internals.reopen_events(self)
                raise

    def state_dict(self) -> dict:
        """Return the last iteration that was written, and bring it to the disk."""
        with self._new_file_after_errors():
            internals.flush_events(self)
        return {"last_write": internals.last_write(self)}

    def load_state_dict(self, state: dict, kept: int | None = None) -> None:
        """Go back to a state, see ``ResumableJSONWriter``."""
        last_write = state["last_write"] if kept is None else kept - 1
        internals.set_last_write(self, last_write)
        internals.hide_events_from(self, last_write + (1 if kept is None else 2))

    def restart(self) -> None:
        """Let TensorBoard hide all events before."""
        internals.hide_events_from(self, 0)


def _size_up_to(path: str, start: int, kept: int) -> int:
    """Return how many bytes after ``start`` hold whole lines of iterations up to ``kept``."""
    size = 0
    with open(path, "rb") as file:
        file.seek(start)
        for line in file:
            iteration = _iteration_of(line)
            if iteration is None:
                logger.warning(f"{path} has a broken line, from which on it is cut off.")
            if iteration is None or iteration > kept:
                break
            size += len(line)
    return size


def _iteration_of(line: bytes) -> int | None:
    """Return the iteration of a line of ``metrics.json``; None where it is no whole line."""
    try:
        iteration = json.loads(line)["iteration"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return iteration if line.endswith(b"\n") and isinstance(iteration, int) else None
