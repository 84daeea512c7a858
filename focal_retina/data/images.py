"""Images that a data loader cannot deliver, by name."""

import logging
from collections.abc import Callable

from PIL import Image

# What Detectron2 and Pillow raise of a file that is missing, broken, too large or of another size
# than the dataset says.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


class ImageError(ValueError):
    """The message is one sentence that names the file.

    A process of a data loader sends its traceback in the place of the message, with the sentence
    at its end, which is what is kept.
    """

    def __init__(self, message: str):
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


class NamingMapper:
    """Another mapper, but its errors name the image.

    Args:
        mapper: from a dataset's dict to a model's input, such as Detectron2's ``DatasetMapper``.
    """

    def __init__(self, mapper: Callable[[dict], dict]):
        self.mapper = mapper

    def __call__(self, dataset_dict: dict) -> dict:
        """Raises:
        ImageError: the mapper cannot read the image, or use what the dataset says about it.
        """
        try:
            return self.mapper(dataset_dict)
        except _BROKEN as error:
            name = dataset_dict.get("file_name")
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ImageError(f"image {name} cannot be used: {reason}") from error


def _is_unexpected(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], ImageError))


# Detectron2's loop logs what ends it with its traceback, which is for bugs.
logging.getLogger("detectron2.engine.train_loop").addFilter(_is_unexpected)
