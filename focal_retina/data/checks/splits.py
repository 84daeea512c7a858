"""Checks of two datasets against each other: no picture in both, the same classes."""

import functools
import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence

from detectron2.utils.file_io import PathManager

from focal_retina.data.checks.pictures import Picture
from focal_retina.data.checks.problems import Finding, Place, Problem, findings
from focal_retina.data.checks.table import Table


def check_splits(
    train: Table,
    test: Table,
    train_pictures: Sequence[Picture] = (),
    test_pictures: Sequence[Picture] = (),
) -> list[Finding]:
    """Compare the classes of two tables and the files of their pictures.

    With facts about the pictures, compare their bytes, too; only those of equal size are read.
    """
    same_files = _same_files(train, test)
    candidates = defaultdict(list)
    for i, picture in enumerate(train_pictures):
        if picture.num_bytes:
            candidates[picture.num_bytes].append(i)
    known, digest = set(same_files), functools.cache(_digest)
    same_bytes = [
        (i, j)
        for j, picture in enumerate(test_pictures)
        for i in candidates.get(picture.num_bytes, [])
        if (i, j) not in known and digest(train.picture(i)) == digest(test.picture(j))
    ]
    same_file, same_bytes = (
        [test.picture_place(j, f"{train.picture(i)} of {train.source}") for i, j in pairs]
        for pairs in (same_files, same_bytes)
    )
    found = {
        Problem.CLASSES_DIFFER: _class_difference(train, test),
        Problem.LEAK_SAME_FILE: same_file,
        Problem.LEAK_SAME_BYTES: same_bytes,
    }
    return findings(test.source, found.items())


def _class_difference(train: Table, test: Table) -> list[Place]:
    """Return the first place where the classes differ, or nothing."""
    ours, theirs = _class_names(train), _class_names(test)
    notes = [
        f"class {i} is {one!r} in {train.source}, {other!r} in {test.source}"
        for i, (one, other) in enumerate(zip(ours, theirs, strict=False))
        if one != other
    ]
    if len(ours) != len(theirs):
        notes.append(f"{len(ours)} in {train.source}, {len(theirs)} in {test.source}")
    return [Place("categories", None, note) for note in notes[:1]]


def _class_names(table: Table) -> list[str]:
    """Return the names in the order of their ids, as Detectron2 numbers the classes."""
    named = zip(table.categories.ids, table.categories.names, strict=True)
    # Malformed ids come before numbers before strings; that they are mixed is another problem.
    ordered = sorted(named, key=lambda x: (x[0] is not None, type(x[0]) is str, x[0]))
    return [name for _, name in ordered]


def _same_files(train: Table, test: Table) -> list[tuple[int, int]]:
    """Return the places of equal paths in both tables."""
    if train.image_root is None or test.image_root is None:
        return []
    named = [i for i, name in enumerate(train.images.file_names) if name]
    rows = {os.path.abspath(train.picture(i)): i for i in named}
    paths = [os.path.abspath(test.picture(j)) for j in range(len(test.images.file_names))]
    return [(rows[path], j) for j, path in enumerate(paths) if path in rows]


def _digest(path: str) -> bytes:
    with PathManager.open(path, "rb") as file:
        return hashlib.blake2b(file.read()).digest()
