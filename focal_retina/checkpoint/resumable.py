"""Which file of a folder a run resumes from."""

import logging
import os
import re

from focal_retina.checkpoint.reading import damage

logger = logging.getLogger(__name__)


def tagged_file(folder: str) -> str:
    """Return the file in the folder that ``last_checkpoint`` names; "" where it names none."""
    tag = os.path.join(folder, "last_checkpoint")
    if not os.path.isfile(tag):  # a pipe would be waited for
        return ""
    with open(tag, "rb") as file:
        name = os.path.basename(file.read(4096).decode(errors="replace").strip())
    return os.path.join(folder, name) if name and name.isprintable() else ""


def resumable_files(folder: str) -> list[str]:
    """Return the file that ``last_checkpoint`` names, then its siblings, the newest first."""
    if not folder or not os.path.isdir(folder):
        return []
    tagged = tagged_file(folder)
    name = re.fullmatch(r"(.+)_(?:\d{7,}|final|interim)\.pth", os.path.basename(tagged))
    sibling = re.compile(re.escape(name[1] if name else "model") + r"_(\d{7,}|final|interim)\.pth")
    found = [os.path.join(folder, name) for name in filter(sibling.fullmatch, os.listdir(folder))]
    # A broken link is listed too, as the last: it will be told of.
    found.sort(key=lambda x: os.path.getmtime(x) if os.path.isfile(x) else 0.0, reverse=True)
    return list(dict.fromkeys([*filter(None, [tagged]), *found]))


def newest_whole_file(folder: str) -> str | None:
    """Return the first whole one of :func:`resumable_files`; name the others in warnings."""
    if not tagged_file(folder):
        logger.warning(f"No last_checkpoint in {folder} names a file: taking the newest.")
    for path in resumable_files(folder):
        reason = damage(path)
        if reason is None:
            return path
        logger.warning(f"Checkpoint {path} is damaged ({reason}): looking for another.")
    return None
