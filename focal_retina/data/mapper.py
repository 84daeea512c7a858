"""Mappers from a dataset's dict to a model's input: images of every shape, errors by name."""

from collections.abc import Callable

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.data.detection_utils import SizeMismatchError
from detectron2.utils.file_io import PathManager
from PIL import Image

from focal_retina.errors import ImageError, UserError

# Errors about a file that is missing, broken, too large or of another size than the dataset says.
_BROKEN = (OSError, SyntaxError, EOFError, SizeMismatchError, Image.DecompressionBombError)


class NamingMapper:
    """A mapper whose errors name the image.

    If ``mapper`` is Detectron2's ``DatasetMapper``, images are refused that it would read wrongly:
    a PNG whose checksums do not fit, and pixels of more than 8 bits, which it clips to 255.
    """

    def __init__(self, mapper: Callable[[dict], dict]):
        self.mapper = mapper

    def __call__(self, dataset_dict: dict) -> dict:
        """Return what the mapper returns; raise an ImageError about the image if it is wrong."""
        name = dataset_dict.get("file_name")
        is_detectron2s = isinstance(self.mapper, DatasetMapper)
        # Pillow and Detectron2 raise ValueErrors of files and annotations, too.
        broken = (*_BROKEN, ValueError) if is_detectron2s else _BROKEN
        try:
            if is_detectron2s:
                _check_file(name)
            return self.mapper(dataset_dict)
        except broken as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ImageError(f"image {name} cannot be used: {reason}") from error


def _check_file(name: str) -> None:
    """Check what needs no decoding."""
    with PathManager.open(name, "rb") as file, Image.open(file) as image:
        if image.mode.startswith(("I", "F")):
            raise UserError(f"its pixels (mode {image.mode}) have more than 8 bits; convert it")
        if image.format == "PNG":
            image.verify()


class ResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's, but each side keeps at least one pixel, for instance of 1 x 20,000 pixels."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Return how to resize an image (H, W, ...)."""
        transform = super().get_transform(image)
        if isinstance(transform, T.ResizeTransform):
            transform.new_h, transform.new_w = max(transform.new_h, 1), max(transform.new_w, 1)
        return transform


def build_mapper(cfg: CfgNode, is_train: bool) -> DatasetMapper:
    """Return the ``DatasetMapper`` of a YAML config with :class:`ResizeShortestEdge`."""
    mapper = DatasetMapper(cfg, is_train)
    augmentations = mapper.augmentations.augs
    for i, found in enumerate(augmentations):
        if type(found) is T.ResizeShortestEdge:
            style = "range" if found.is_range else "choice"
            sizes = found.short_edge_length, found.max_size
            augmentations[i] = ResizeShortestEdge(*sizes, style, found.interp)
    return mapper
