"""A dataset as columns, so that all its entries are checked at once."""

import os
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from focal_retina.data.checks.fields import Names
from focal_retina.data.checks.problems import Place


class Images(NamedTuple):
    ids: list  # None where malformed
    file_names: list[str]  # "" where malformed
    sizes: np.ndarray  # (N, 2), float64, pixels: width, height; NaN where malformed or not stated


class Categories(NamedTuple):
    ids: list  # None where malformed
    names: list[str]  # "" where malformed


class Annotations(NamedTuple):
    """The well-formed annotations."""

    numbers: np.ndarray  # (A,), int64: the entry's number in the file
    ids: list
    image_ids: list
    category_ids: list
    image_idxs: np.ndarray  # (A,), int64, into Images; -1 where there is no such image
    category_idxs: np.ndarray  # (A,), int64, into Categories; -1 where there is no such category
    boxes: np.ndarray  # (A, 4), float64, pixels: x, y, width, height
    is_whole: np.ndarray  # (A,), bool: the four numbers are integers
    areas: np.ndarray  # (A,), float64, square pixels, as stated; NaN where missing
    has_shape: np.ndarray  # (A,), bool: a segmentation is stated
    is_crowd: np.ndarray  # (A,), bool
    lacks_crowd_flag: np.ndarray  # (A,), bool
    lacks_area: np.ndarray  # (A,), bool
    lacks_polygons: np.ndarray  # (A,), bool: segmentations are read, and no polygon is usable


class Table(NamedTuple):
    source: str  # the dataset's name, or its json
    image_root: str | None  # None where it is not known
    images: Images
    categories: Categories
    annotations: Annotations
    malformed: list[Place]
    names: Names
    box_hint: str = ""  # what may be wrong with all boxes, if one is

    def image_place(self, idx: int, key: str, value: object = None, note: str = "") -> Place:
        images = self.images
        path = f"{self.names.images(idx)}.{key}"
        return Place(path, value, note, None, images.ids[idx], images.file_names[idx])

    def picture_place(self, idx: int, note: str) -> Place:
        path = self.picture(idx)
        return Place(path, None, note, None, self.images.ids[idx], path)

    def category_place(self, idx: int, key: str, value: object = None, note: str = "") -> Place:
        return Place(f"{self.names.categories(idx)}.{key}", value, note)

    def annotation_place(self, idx: int, key: str, value: object = None, note: str = "") -> Place:
        annotations, row = self.annotations, self.annotations.image_idxs[idx]
        path = f"{self.names.annotations(annotations.numbers[idx])}.{key}"
        file_name = self.images.file_names[row] if row >= 0 else None
        ids = annotations.ids[idx], annotations.image_ids[idx]
        return Place(path, value, note, *ids, file_name)

    def annotation_places(
        self, mask: np.ndarray, key: str, values: Sequence | None = None
    ) -> list[Place]:
        """Return the places of those annotations where the mask, (A,), bool, is True."""
        found = np.flatnonzero(mask).tolist()
        return [self.annotation_place(i, key, values[i] if values else None) for i in found]

    def picture(self, idx: int) -> str:
        """Return the path of an image's file."""
        return os.path.join(self.image_root or "", self.images.file_names[idx])


def repeats(keys: Iterable[Hashable]) -> Iterator[tuple[int, int]]:
    """Yield the index of each repeated key and of its first occurrence; None does not count."""
    first: dict[Hashable, int] = {}
    for i, key in enumerate(keys):
        if key is not None and first.setdefault(key, i) != i:
            yield i, first[key]
