"""Mappers from a dataset's dict to a model's input: images of every shape, errors by name."""

from collections.abc import Callable

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.data.detection_utils import SizeMismatchError

from focal_retina.data.pictures import read_picture
from focal_retina.detectron2_internals import images_read_by
from focal_retina.errors import ImageError

# Errors of a mapper about a file that is missing, broken or of another size than the dataset says.
_BROKEN = (OSError, SyntaxError, EOFError, SizeMismatchError)


class NamingMapper:
    """A mapper whose errors name the image.

    Where the mapper calls Detectron2's ``utils.read_image``, as ``DatasetMapper`` does,
    :func:`~focal_retina.data.pictures.read_picture` reads the image.
    """

    def __init__(self, mapper: Callable[[dict], dict]):
        self.mapper = mapper

    def __call__(self, dataset_dict: dict) -> dict:
        """Return what the mapper returns; raise an ImageError about the image if it is wrong."""
        # Detectron2 raises ValueErrors of annotations, too.
        broken = (*_BROKEN, ValueError) if isinstance(self.mapper, DatasetMapper) else _BROKEN
        try:
            with images_read_by(read_picture):
                return self.mapper(dataset_dict)
        except ImageError:
            raise
        except broken as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            name = dataset_dict.get("file_name")
            raise ImageError(f"image {name} cannot be used: {reason}") from error


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
