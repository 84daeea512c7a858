"""Detectron2's resizing, for images of every shape."""

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T


class ResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's, of the same arguments, but at least one pixel of each side is left.

    Of an image of 1 x 20,000 pixels that ``max_size`` scales down, Detectron2's leaves no height,
    and Pillow fails.
    """

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Return how to resize an image (H, W, ...)."""
        transform = super().get_transform(image)
        if isinstance(transform, T.ResizeTransform):
            transform.new_h, transform.new_w = max(transform.new_h, 1), max(transform.new_w, 1)
        return transform


def build_mapper(cfg: CfgNode, is_train: bool) -> DatasetMapper:
    """Return the ``DatasetMapper`` of a YAML config with :class:`ResizeShortestEdge`."""
    mapper = DatasetMapper(cfg, is_train)
    mapper.augmentations.augs = [_of_any_shape(x) for x in mapper.augmentations.augs]
    return mapper


def _of_any_shape(augmentation: T.Augmentation) -> T.Augmentation:
    if type(augmentation) is not T.ResizeShortestEdge:
        return augmentation
    style = "range" if augmentation.is_range else "choice"
    return ResizeShortestEdge(
        augmentation.short_edge_length, augmentation.max_size, style, augmentation.interp
    )
