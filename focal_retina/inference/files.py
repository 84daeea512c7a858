"""The files that a user's inputs name."""

import glob
import os
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

# Pillow's names of what is a picture, and not for instance a document.
_PICTURES = "AVIF BMP DDS DIB GIF JPEG JPEG2000 MPO PCX PNG PPM PSD QOI SGI TGA TIFF WEBP".split()
_VIDEOS = (
    ".3gp .asf .avi .flv .m2ts .m4v .mjpeg .mjpg .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv"
).split()


class Inputs(NamedTuple):
    """Files in the order of a user's inputs, and sentences about inputs."""

    pictures: list[str]
    videos: list[str]
    failures: list[str]  # inputs that give no file
    left_out: list[str]  # what folders have besides


def find_files(inputs: Sequence[str]) -> Inputs:
    """Find the pictures and videos of files, globs and folders."""
    found = Inputs([], [], [], [])
    for name in inputs:
        try:
            files = _of_folder(name, found.left_out) if os.path.isdir(name) else _of_glob(name)
        except OSError as error:
            found.failures.append(f"{name} cannot be read: {error.strerror}")
            continue
        for file in files:
            (found.videos if _kind(file) in _VIDEOS else found.pictures).append(file)
        if not files:
            reason = "does not exist, or is no regular file"
            if os.path.isdir(name):
                reason = "has no pictures or videos of its own; name the folders in it"
            found.failures.append(f"{name} {reason}")
    return found


def _of_glob(pattern: str) -> list[str]:
    names = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
    return [name for name in names if os.path.isfile(name)]


def _of_folder(folder: str, left_out: list[str]) -> list[str]:
    Image.init()
    known = {kind for kind, name in Image.registered_extensions().items() if name in _PICTURES}
    known.update(_VIDEOS)
    with os.scandir(folder) as entries:
        entries = sorted((e for e in entries if not e.is_dir()), key=lambda e: e.path)
    left_out += [f"{e.path} is no regular file" for e in entries if not e.is_file()]
    files = [e for e in entries if e.is_file()]
    taken = [e.path for e in files if not e.name.startswith(".") and _kind(e.name) in known]
    if count := len(files) - len(taken):
        left_out.append(f"{count} files in {folder} are hidden, or no pictures or videos by name")
    return taken


def _kind(file: str) -> str:
    return os.path.splitext(file)[1].lower()
