"""How a run ends before its last iteration: in peace, or with one sentence."""

import logging

from detectron2.engine import TrainerBase

logger = logging.getLogger(__name__)


class TrainingStopped(Exception):  # noqa: N818  no error, as StopIteration is none
    """Raised by a hook that ends a run which has done all it should; says why."""


class TrainingError(Exception):
    """What ends a run through no bug: its message is one sentence for the user."""


class ImageError(ValueError):
    """The message is one sentence that names the file.

    A process of a data loader sends its traceback in the place of the message, with the sentence
    at its end, which is what is kept.
    """

    def __init__(self, message: str):
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


class SharedError(ValueError):
    """A user's mistake that all processes hear of, so that the main one tells it."""


def _is_unexpected(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, TrainingStopped | TrainingError | ImageError)


# Detectron2's loop logs every exception with its traceback, which is for bugs.
logging.getLogger("detectron2.engine.train_loop").addFilter(_is_unexpected)


class EndableTrainer(TrainerBase):
    """A trainer that a hook may end; list it after Detectron2's trainer among the bases."""

    def train(self, start_iter: int, max_iter: int) -> None:
        try:
            super().train(start_iter, max_iter)
        except TrainingStopped as reason:
            logger.info(str(reason))
