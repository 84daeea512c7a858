"""Detections in COCO's format, as pycocotools reads them."""

import json
from collections.abc import Sequence
from pathlib import Path

from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances


class CocoResults:
    """The ``detections`` of many ``images``, whose ids are 1, 2, 3, ...; of K classes."""

    def __init__(self, class_names: Sequence[str], category_ids: Sequence[int]):
        pairs = zip(category_ids, class_names, strict=True)
        self.categories = [{"id": i, "name": name} for i, name in pairs]
        self.images: list[dict] = []
        self.detections: list[dict] = []

    def add(self, name: str, instances: Instances) -> None:
        """Add an image's detections, in pixels of the image."""
        height, width = instances.image_size
        image = {"id": len(self.images) + 1, "file_name": name, "height": height, "width": width}
        self.images.append(image)
        for detection in instances_to_coco_json(instances, image["id"]):
            detection["category_id"] = self.categories[detection["category_id"]]["id"]
            self.detections.append(detection)

    def write(self, folder: Path) -> None:
        """Write predictions.json (COCO results) and images.json (the images and categories)."""
        dataset = {"images": self.images, "categories": self.categories, "annotations": []}
        dataset["info"] = {}  # pycocotools' loadRes copies it
        (folder / "images.json").write_text(json.dumps(dataset))
        (folder / "predictions.json").write_text(json.dumps(self.detections))
