"""Count what training will not use of a dataset."""

from typing import NamedTuple

import numpy as np

from focal_retina.data.checks.entries import EMPTY, sides_inside
from focal_retina.data.checks.table import Table


class Drops(NamedTuple):
    annotations: int
    dropped: dict[str, int]  # the first reason to drop annotations -> how many
    images: int
    images_empty: int  # that the filter of images without objects drops

    @property
    def used(self) -> int:
        """The number of annotations that training uses."""
        return self.annotations - sum(self.dropped.values())

    def __str__(self) -> str:
        unused = ", ".join(f"{count:,} {why}" for why, count in self.dropped.items() if count)
        text = f"{self.used:,} of {self.annotations:,} annotations"
        text += f" (not {unused})" if unused else ""
        text += f" and {self.images - self.images_empty:,} of {self.images:,} images"
        if self.images_empty:
            text += f" (not {self.images_empty:,} without objects, as "
            text += "DATALOADER.FILTER_EMPTY_ANNOTATIONS says)"
        return text


def count_drops(table: Table, filter_empty: bool) -> Drops:
    """Count what Detectron2's loader, filter of empty images and mapper drop, before crops."""
    annotations = table.annotations
    reasons = {
        "of unknown images": annotations.image_idxs < 0,
        "without a valid polygon": annotations.lacks_polygons,
        "crowds": annotations.is_crowd,
        "with boxes of no area inside the image": ~(sides_inside(table) > EMPTY).all(axis=1),
    }
    left, dropped = np.ones(len(annotations.ids), dtype=bool), {}
    for reason, applies in reasons.items():
        dropped[reason] = int((left & applies).sum())
        left &= ~applies
    # The filter of images comes before the mapper, which looks at boxes.
    *seen_by_filter, _ = reasons.values()
    objects = ~np.any(seen_by_filter, axis=0)
    num_images = len(table.images.ids)
    empty = num_images - len(np.unique(annotations.image_idxs[objects]))
    return Drops(len(left), dropped, num_images, empty if filter_empty else 0)
