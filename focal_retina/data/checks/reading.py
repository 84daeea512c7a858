"""Tables from COCO json."""

import json
import os
from collections.abc import Iterator
from functools import lru_cache

from detectron2.utils.file_io import PathManager

from focal_retina.data.checks.columns import table_of_sections
from focal_retina.data.checks.fields import Names
from focal_retina.data.checks.findings import Place
from focal_retina.data.checks.table import Table
from focal_retina.data.garbage_collection import paused_gc


def read_table(json_file: str, image_root: str | None = None, source: str = "") -> Table:
    """Read COCO json; an unchanged file is read once, until :func:`forget_tables`.

    Whatever it holds, it becomes a table: what is not COCO's form is in ``malformed``.

    Raises:
        ValueError: there is no such file.
    """
    if not PathManager.isfile(json_file):
        raise ValueError(f"the COCO json {json_file} does not exist")
    path = PathManager.get_local_path(json_file)
    table = _read(path, os.stat(path).st_mtime_ns)
    return table._replace(source=source or json_file, image_root=image_root)


def forget_tables() -> None:
    """Free the memory of what :func:`read_table` keeps."""
    _read.cache_clear()


@lru_cache
def _read(path: str, modified: int) -> Table:
    with paused_gc():
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
        except (RecursionError, ValueError) as error:
            return table_of({}, [Place("the file", None, str(error))])
        return table_of(content)


def table_of(content: object, malformed: list[Place] | None = None) -> Table:
    """Return the table of a json's content, without source and image folder.

    Args:
        malformed: why there is no content, where that is so.
    """
    places = list(malformed or _sections_missing(content))
    sections = {kind: [] if places else content.get(kind, []) for kind in Names._fields}
    return table_of_sections(sections, Names(), places)


def _sections_missing(content: object) -> Iterator[Place]:
    if type(content) is not dict:
        yield Place("the json", content, "expected an object with images, categories, annotations")
        return
    for kind, default in (("images", None), ("categories", None), ("annotations", [])):
        found = content.get(kind, default)
        if type(found) is not list or (not found and kind != "annotations"):
            at_least = "" if kind == "annotations" else ", at least one"
            yield Place(kind, found, f"expected a list of {kind}{at_least}")
