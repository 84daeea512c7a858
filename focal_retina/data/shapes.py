"""The built-in dataset: drawn shapes in COCO format, made on first use.

It stands in for COCO where nothing can be downloaded: the demo, the tests, scaled-down tables.
"""

import json
import os
import shutil
import zlib
from pathlib import Path

import cv2
import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from iopath.common.file_io import file_lock

from focal_retina.data.drawing import CLASSES, draw_scene
from focal_retina.files import write_atomically

# Part of what identifies a dataset on disk: to be raised when the drawing changes.
_VERSION = 2


def write_shapes(
    folder: str | Path, split: str, num_images: int, image_size: int = 160, seed: int = 0
) -> Path:
    """Make sure that a split of the shapes is on disk, and return the split's own folder.

    That folder has ``instances.json`` (COCO format; written last, so that an interrupted run
    leaves none) and ``images/``. Complete images of the same parameters are reused untouched;
    incomplete ones are all drawn again. Several processes may call this at once.

    Args:
        folder: where the split's folder is made, ``<split>-<images>x<size>-seed<seed>``.
        split: any name; every split shows other images.
        image_size: side of the square images, pixels, at least 64.
        seed: 0 to 2^32 - 1. The same parameters give the same pixels and boxes everywhere.
    """
    if num_images < 1 or image_size < 64 or not 0 <= seed < 2**32:
        raise ValueError(
            "The shapes dataset needs num_images >= 1, image_size >= 64 and 0 <= seed < 2^32, "
            f"but got {num_images}, {image_size} and {seed}."
        )
    target = _split_folder(folder, split, num_images, image_size, seed)
    info = {"version": _VERSION, "split": split, "seed": seed}
    info |= {"num_images": num_images, "image_size": image_size}
    if not _is_complete(target, info):
        with file_lock(str(target)):
            # another process may have written it while this one waited for the lock
            if not _is_complete(target, info):
                _write(target, info)
    return target


def register_shapes(
    folder: str | Path | None = None,
    train_images: int = 2000,
    val_images: int = 300,
    image_size: int = 160,
    seed: int = 0,
) -> None:
    """Register ``shapes_train`` and ``shapes_val``, replacing what had these names.

    Nothing is written before a dataset is first loaded. Arguments as in :func:`write_shapes`;
    without a folder, the images go to ``$DETECTRON2_DATASETS/shapes``, next to Detectron2's own
    datasets (``datasets/shapes`` where that variable is not set).
    """
    if folder is None:
        folder = Path(os.environ.get("DETECTRON2_DATASETS", "datasets"), "shapes")
    for split, num_images in (("train", train_images), ("val", val_images)):
        _register(f"shapes_{split}", folder, split, num_images, image_size, seed)


def _register(name: str, *parameters) -> None:
    target = _split_folder(*parameters)
    files = {"json_file": f"{target}/instances.json", "image_root": f"{target}/images"}

    def load() -> list[dict]:
        write_shapes(*parameters)
        return load_coco_json(**files, dataset_name=name)

    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(**files, evaluator_type="coco", thing_classes=list(CLASSES))


def _split_folder(folder, split: str, num_images: int, image_size: int, seed: int) -> Path:
    return Path(folder) / f"{split}-{num_images}x{image_size}-seed{seed}"


def _is_complete(target: Path, info: dict) -> bool:
    """Return whether the json is there, has ``info``, and fits the image files."""
    try:
        found = json.loads((target / "instances.json").read_text())["info"]
        return found == {**info, "image_bytes": _image_bytes(target)}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def _image_bytes(target: Path) -> int:
    return sum(entry.stat().st_size for entry in os.scandir(target / "images"))


def _write(target: Path, info: dict) -> None:
    shutil.rmtree(target, ignore_errors=True)
    (target / "images").mkdir(parents=True)
    side, images, annotations = info["image_size"], [], []
    for image_id in range(1, info["num_images"] + 1):
        key = [info["seed"], zlib.crc32(info["split"].encode()), image_id]
        pixels, objects = draw_scene(np.random.RandomState(key), side)
        name = f"{image_id:06d}.png"
        # OpenCV reports a full disk only by its return value
        path = str(target / "images" / name)
        if not cv2.imwrite(path, pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
            raise OSError(f"Cannot write {path}; is the disk full?")
        images.append({"id": image_id, "file_name": name, "height": side, "width": side})
        for drawn in objects:
            owner = {"id": len(annotations) + 1, "image_id": image_id}
            width, height = drawn.bbox[2:]
            box = {"bbox": list(drawn.bbox), "area": width * height, "iscrowd": 0}
            annotations.append({**owner, "category_id": drawn.category + 1, **box})
    content = {
        "info": {**info, "image_bytes": _image_bytes(target)},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
    }
    write_atomically(target / "instances.json", json.dumps(content).encode())
