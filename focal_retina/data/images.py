"""Images that a data loader cannot deliver, by name."""

from collections.abc import Callable

from detectron2.data import DatasetMapper
from detectron2.utils.file_io import PathManager
from PIL import Image

from focal_retina.errors import ImageError

# What Detectron2 and Pillow raise of a file that is missing, broken, too large or of another size
# than the dataset says.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


class NamingMapper:
    """Another mapper, but its errors name the image.

    Of Detectron2's own mapper it also refuses what that would take for another picture: a PNG whose
    checksums do not fit, and pixels of more than 8 bits, which it clips to 255.

    Args:
        mapper: from a dataset's dict to a model's input, such as Detectron2's ``DatasetMapper``.
    """

    def __init__(self, mapper: Callable[[dict], dict]):
        self.mapper = mapper

    def __call__(self, dataset_dict: dict) -> dict:
        """Return what the mapper does.

        Raises:
            ImageError: the image cannot be read, or is not as the dataset says.
        """
        name = dataset_dict.get("file_name")
        try:
            if isinstance(self.mapper, DatasetMapper):
                _check_file(name)
            return self.mapper(dataset_dict)
        except _BROKEN as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ImageError(f"image {name} cannot be used: {reason}") from error


def _check_file(name: str) -> None:
    """Look at what takes no decoding."""
    with PathManager.open(name, "rb") as file, Image.open(file) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"its pixels (mode {image.mode}) have more than 8 bits; convert it")
        if image.format == "PNG":
            image.verify()
