"""Random COCO datasets, and detections near their objects."""

import numpy as np
import torch
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, Instances
from helpers.small_datasets import write_json


def random_content(seed=0, *, classes=3, images=10, objects=8, crowds=0.1):
    """Return COCO json of images of several sizes, each with up to so many objects."""
    rng = np.random.default_rng(seed)
    content = {"images": [], "annotations": []}
    content["categories"] = [{"id": 2 * i + 1, "name": f"class{i}"} for i in range(classes)]
    for number in rng.permutation(images).tolist():
        height, width = rng.integers(40, 800, 2).tolist()
        entry = {"id": 3 * number + 1, "file_name": f"{number}.jpg"}
        content["images"].append({**entry, "height": height, "width": width})
        for _ in range(rng.integers(0, objects + 1)):
            x, y, w, h = (rng.random(4) * [width, height, width / 2, height / 2]).tolist()
            ids = {"id": len(content["annotations"]) + 1, "image_id": entry["id"]}
            ids["category_id"] = 2 * int(rng.integers(classes)) + 1
            rest = {
                "bbox": [x, y, w, h],
                "area": 0.8 * w * h,
                "iscrowd": int(rng.random() < crowds),
            }
            content["annotations"].append({**ids, **rest})
    return content


def detections_near(content, image, *, number=20, rounded=False, seed=0):
    """Return detections of an image, most of them near its objects; equal scores if ``rounded``."""
    rng = np.random.default_rng([seed, image["id"]])
    classes = {x["id"]: i for i, x in enumerate(content["categories"])}
    objects = [x for x in content["annotations"] if x["image_id"] == image["id"]]
    boxes, labels = rng.random((number, 4)) * 90, rng.integers(len(classes), size=number)
    if objects and number:
        chosen = [objects[i] for i in rng.integers(len(objects), size=number)]
        noise = rng.normal(size=(number, 4)) * rng.choice([0, 2, 20], size=(number, 1))
        boxes = np.abs(np.array([x["bbox"] for x in chosen]) + noise)
        is_right = rng.random(number) < 0.7
        labels = np.where(is_right, [classes[x["category_id"]] for x in chosen], labels)
    boxes[:, 2:] += boxes[:, :2]
    scores = rng.random(number).round(1 if rounded else 9)
    return Instances(
        (image["height"], image["width"]),
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32)),
        scores=torch.tensor(scores, dtype=torch.float32),
        pred_classes=torch.tensor(labels),
    )


def perfect_detections(content, image):
    """Return the objects of an image as its detections; classes are in the order of their ids."""
    classes = {x: i for i, x in enumerate(sorted(c["id"] for c in content["categories"]))}
    objects = [x for x in content["annotations"] if x["image_id"] == image["id"]]
    boxes = torch.tensor([x["bbox"] for x in objects], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Instances(
        (image["height"], image["width"]),
        pred_boxes=Boxes(boxes),
        scores=torch.full((len(objects),), 0.9),
        pred_classes=torch.tensor([classes[x["category_id"]] for x in objects], dtype=torch.int64),
    )


def register(name, content, folder):
    """Register the content as Detectron2 does, loaded once; return the name."""
    register_coco_instances(name, {}, write_json(folder / f"{name}.json", content), str(folder))
    DatasetCatalog.get(name)
    return name


def evaluated(evaluator, content, detections_of, **options):
    """Return an evaluator's results of what a function detects in each image, sorted by id."""
    evaluator.reset()
    for image in sorted(content["images"], key=lambda x: x["id"]):
        found = {"instances": detections_of(content, image, **options)}
        evaluator.process([{"image_id": image["id"]}], [found])
    return evaluator.evaluate()
