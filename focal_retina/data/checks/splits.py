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
    findings = []
    classes, others = (_class_names(table) for table in (train, test))
    if classes != others:
        i = next((i for i, (a, b) in enumerate(zip(classes, others, strict=False)) if a != b), None)
        note = f"{len(classes)} in {train.source}, {len(others)} in {test.source}"
        if i is not None:
            note = f"class {i} is {classes[i]!r} in {train.source}, {others[i]!r} in {test.source}"
        findings.append(
            Finding(rules.CLASSES_DIFFER, test.source, [Place("categories", None, note)])
        )
    places = [_leak(train, test, i, j) for i, j in _same_files(train, test)]
    if places:
        findings.append(Finding(rules.SAME_FILE, test.source, places))
    return findings


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


def _class_names(table: Table) -> list[str]:
    """Return the names in the order of their ids, as Detectron2 numbers the classes."""
    named = zip(table.categories.ids, table.categories.names, strict=True)
    # Ids of several types cannot be ordered, and are a finding of their own.
    return [name for _, name in sorted(named, key=lambda x: (str(type(x[0])), x[0] or 0))]


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
