"""Checks of two datasets against each other: the same pictures, the same classes."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence

from detectron2.utils.file_io import PathManager

from focal_retina.data.checks import findings as rules
from focal_retina.data.checks.findings import Finding, Place
from focal_retina.data.checks.pictures import Picture
from focal_retina.data.checks.table import Table


def check_splits(train: Table, test: Table) -> list[Finding]:
    """Compare what two tables say: their classes, and the files of their pictures."""
    leaks = [_leak(train, test, i, j) for i, j in _same_files(train, test)]
    found = (rules.CLASSES_DIFFER, _class_difference(train, test)), (rules.SAME_FILE, leaks)
    return [Finding(rule, test.source, places) for rule, places in found if places]


def check_bytes(
    train: Table, test: Table, train_pictures: Sequence[Picture], test_pictures: Sequence[Picture]
) -> list[Finding]:
    """Look for pictures of the same bytes under different paths, reading those of equal size."""
    candidates = defaultdict(list)
    for i, picture in enumerate(train_pictures):
        if picture.num_bytes:
            candidates[picture.num_bytes].append(i)
    known = set(_same_files(train, test))
    digests: dict[str, bytes] = {}
    places = [
        _leak(train, test, i, j)
        for j, picture in enumerate(test_pictures)
        for i in candidates.get(picture.num_bytes, [])
        if (i, j) not in known
        and _digest(train.picture(i), digests) == _digest(test.picture(j), digests)
    ]
    return [Finding(rules.SAME_BYTES, test.source, places)] if places else []


def _class_difference(train: Table, test: Table) -> list[Place]:
    """Return where the classes differ first, if they do."""
    ours, theirs = (_class_names(table) for table in (train, test))
    for i, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            note = f"class {i} is {one!r} in {train.source}, {other!r} in {test.source}"
            return [Place("categories", None, note)]
    if len(ours) == len(theirs):
        return []
    note = f"{len(ours)} in {train.source}, {len(theirs)} in {test.source}"
    return [Place("categories", None, note)]


def _class_names(table: Table) -> list[str]:
    """Return the names in the order of their ids, as Detectron2 numbers the classes."""
    named = zip(table.categories.ids, table.categories.names, strict=True)
    return [name for _, name in sorted(named, key=_order_of_id)]


def _order_of_id(category: tuple[object, str]) -> tuple:
    """Order malformed ids, numbers, strings: an error of their own where they are mixed."""
    category_id, _ = category
    return (
        category_id is not None,
        type(category_id) is str,
        0 if category_id is None else category_id,
    )


def _same_files(train: Table, test: Table) -> list[tuple[int, int]]:
    """Return the places of equal paths in both tables."""
    if train.image_root is None or test.image_root is None:
        return []
    rows = {
        os.path.abspath(train.picture(i)): i
        for i, name in enumerate(train.images.file_names)
        if name
    }
    paths = [os.path.abspath(test.picture(j)) for j in range(len(test.images.file_names))]
    return [(rows[path], j) for j, path in enumerate(paths) if path in rows]


def _leak(train: Table, test: Table, i: int, j: int) -> Place:
    path = test.picture(j)
    note = f"{train.picture(i)} of {train.source}"
    return Place(path, None, note, None, test.images.ids[j], path)


def _digest(path: str, digests: dict[str, bytes]) -> bytes:
    if path not in digests:
        with PathManager.open(path, "rb") as file:
            digests[path] = hashlib.blake2b(file.read()).digest()
    return digests[path]
