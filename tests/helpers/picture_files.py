"""Picture files in many formats, and what the parts of the package make of one."""

import io
from pathlib import Path

import numpy as np
from detectron2.data import DatasetMapper
from helpers import small_datasets as small
from PIL import Image, features

from focal_retina.data.checks.pictures import Picture, inspect_pictures
from focal_retina.data.checks.reading import read_table
from focal_retina.data.mapper import NamingMapper

FORMATS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", *["AVIF"] * features.check("avif")]


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels)
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def encoded(image: Image.Image, format: str, **options) -> bytes:
    """Return the content of a file."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def training_reads(path: str | Path) -> np.ndarray:
    """Return the pixels that training gets of a file, (H, W, 3), RGB."""
    mapper = DatasetMapper(is_train=False, augmentations=[], image_format="RGB")
    image = NamingMapper(mapper)({"file_name": str(path)})["image"]
    return image.permute(1, 2, 0).numpy()


def check_finds(path: Path, decode: bool = False) -> Picture:
    """Return what a check of datasets knows of a file."""
    images = [{"id": 1, "file_name": path.name, "width": 1, "height": 1}]
    json_file = path.with_name("of_one.json")
    small.write_json(json_file, {**small.coco_content(), "images": images})
    (found,) = inspect_pictures(read_table(str(json_file), str(path.parent)), decode, 1)
    return found
