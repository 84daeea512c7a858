"""A small COCO dataset to be broken in one place, and what Detectron2 does with it."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, DatasetMapper, get_detection_dataset_dicts
from detectron2.data import transforms as T
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, Instances
from helpers.tiny_jobs import catalogs_restored
from PIL import Image

NUM_IMAGES = 3
WIDTH, HEIGHT = 64, 48
MISSING = "MISSING"  # a string, for tables in YAML


def coco_content():
    """Return three images, each with a cat (annotation 10, 12, 14) and a dog (11, 13, 15)."""
    return {
        "images": [
            {"id": i + 1, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT}
            for i in range(NUM_IMAGES)
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [
            {
                "id": 10 + i,
                "image_id": i // 2 + 1,
                "category_id": 7 + i % 2 * 2,
                "bbox": [4.0 + i, 5.0, 20.0, 10.0 + i],
                "area": 20.0 * (10 + i),
                "iscrowd": 0,
            }
            for i in range(2 * NUM_IMAGES)
        ],
    }


def changed(kind, number, **values):
    """Return :func:`coco_content` with other values of an entry; MISSING removes a key."""
    content = coco_content()
    entry = {**content[kind][number], **values}
    content[kind][number] = {k: v for k, v in entry.items() if v != MISSING}
    return content


def added(kind, number, **values):
    """Return :func:`coco_content` with a copy of an entry that has other values."""
    content = coco_content()
    content[kind].append({**content[kind][number], **values})
    return content


def with_text_ids(kind, reference):
    """Return :func:`coco_content` with the ids of a kind, and what refers to them, as texts."""
    content = coco_content()
    for entries, key in ((content[kind], "id"), (content["annotations"], reference)):
        for entry in entries:
            entry[key] = str(entry[key])
    return content


def write_dataset(folder, content=None, seed=0):
    """Write :func:`coco_content`, or another content, and its pictures; return json and folder.

    The pictures differ for every seed.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(NUM_IMAGES):
        pixels = rng.integers(256, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{i}.png")
    return write_json(folder / "a.json", content or coco_content()), str(images)


def write_json(path, content):
    Path(path).write_text(json.dumps(content))
    return str(path)


def detectron2_mapper(augmentation):
    """Return Detectron2's mapper for training, with one augmentation."""
    return DatasetMapper(
        is_train=True, augmentations=[augmentation], image_format="BGR", use_instance_mask=False
    )


def detectron2_trains_on(json_file, image_folder, filter_empty=True):
    """Return what Detectron2's loader and mapper give training: by image id, its inputs."""
    mapper = detectron2_mapper(T.ResizeShortestEdge(2 * HEIGHT))
    with catalogs_restored():
        register_coco_instances("broken", {}, json_file, image_folder)
        records = get_detection_dataset_dicts("broken", filter_empty=filter_empty)
    return {record["image_id"]: mapper(record) for record in records}


def detectron2_evaluates(json_file, image_folder, evaluator_class):
    """Return the box AP of perfect detections for :func:`coco_content` on another json."""
    perfect = defaultdict(list)
    for thing in coco_content()["annotations"]:
        x, y, w, h = thing["bbox"]
        label = int(thing["category_id"] == 9)
        perfect[str(thing["image_id"])].append(([x, y, x + w, y + h], label))
    with catalogs_restored():
        register_coco_instances("evaluated", {}, json_file, image_folder)
        evaluator = evaluator_class("evaluated", output_dir=image_folder)
        return box_ap("evaluated", evaluator, lambda record: perfect[str(record["image_id"])])


def box_ap(dataset, evaluator, objects_of):
    """Return the box AP if the (xyxy, class) that a function gives for each record are found."""
    evaluator.reset()
    for record in DatasetCatalog.get(dataset):
        objects = objects_of(record)
        found = Instances(
            (record["height"], record["width"]),
            pred_boxes=Boxes([box for box, _ in objects]),
            pred_classes=torch.tensor([label for _, label in objects]),
            scores=torch.ones(len(objects)),
        )
        evaluator.process([record], [{"instances": found}])
    return evaluator.evaluate()["bbox"]["AP"]
