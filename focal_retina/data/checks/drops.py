"""Count what training will not use of a dataset."""

from typing import NamedTuple

import numpy as np

from focal_retina.data.checks.entries import EMPTY, sides_inside
from focal_retina.data.checks.table import Table

_FILTER = "DATALOADER.FILTER_EMPTY_ANNOTATIONS"


class Drops(NamedTuple):
    """Numbers of annotations, by the first reason to drop them, and of images."""

    annotations: int
    image_unknown: int
    polygon_invalid: int
    crowd: int
    empty: int  # after clipping at the image
    images: int
    images_empty: int  # that the filter of images without objects drops

    def __str__(self) -> str:
        reasons = {
            "of unknown images": self.image_unknown,
            "without a valid polygon": self.polygon_invalid,
            "crowds": self.crowd,
            "with boxes of no area inside the image": self.empty,
        }
        used = self.annotations - sum(reasons.values())
        unused = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items() if count)
        text = f"{used:,} of {self.annotations:,} annotations"
        text += f" (not {unused})" if unused else ""
        text += f" and {self.images - self.images_empty:,} of {self.images:,} images"
        if self.images_empty:
            text += f" (not {self.images_empty:,} without objects, as {_FILTER} says)"
        return text


def count_drops(table: Table, filter_empty: bool) -> Drops:
    """Count what Detectron2's loader, filter and mapper drop, before random crops.

    Args:
        filter_empty: ``DATALOADER.FILTER_EMPTY_ANNOTATIONS``.
    """
    annotations = table.annotations
    left = np.ones(len(annotations.ids), dtype=bool)
    counts = {}
    for reason, dropped in (
        ("image_unknown", annotations.image_idxs < 0),
        ("polygon_invalid", annotations.lacks_polygons),
        ("crowd", annotations.is_crowd),
        ("empty", ~(sides_inside(table) > EMPTY).all(axis=1)),
    ):
        counts[reason] = int((left & dropped).sum())
        # The filter of images comes before the mapper, which looks at boxes.
        objects = left if reason == "empty" else left & ~dropped
        left = left & ~dropped
    num_images = len(table.images.ids)
    with_objects = len(np.unique(annotations.image_idxs[objects]))
    return Drops(
        annotations=len(left),
        images=num_images,
        images_empty=num_images - with_objects if filter_empty else 0,
        **counts,
    )
