"""Detections in COCO's format, as pycocotools reads them."""

import json
from collections.abc import Sequence
from pathlib import Path

from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances


class Predictions:
    """Detections by image; ids of images count from 1.

    Args:
        class_names: K names.
        category_ids: K ids, of the dataset.
    """

    def __init__(self, class_names: Sequence[str], category_ids: Sequence[int]):
        self.category_ids = list(category_ids)
        pairs = zip(category_ids, class_names, strict=True)
        self.categories = [{"id": i, "name": name} for i, name in pairs]
        self.images: list[dict] = []
        self.results: list[dict] = []

    def add(self, name: str, instances: Instances) -> int:
        """Add an image's detections, in its pixels; return the image's id."""
        image_id = len(self.images) + 1
        height, width = instances.image_size
        self.images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        results = instances_to_coco_json(instances, image_id)
        for result in results:
            result["category_id"] = self.category_ids[result["category_id"]]
        self.results += results
        return image_id

    def write(self, folder: Path) -> None:
        """Write predictions.json, COCO results, and images.json, the images and categories."""
        dataset = {"images": self.images, "categories": self.categories, "annotations": []}
        # pycocotools' loadRes copies this one.
        dataset["info"] = {}
        (folder / "images.json").write_text(json.dumps(dataset))
        (folder / "predictions.json").write_text(json.dumps(self.results))

    def summary(self) -> str:
        """Return how many detections and images there are, in words."""
        return f"{len(self.results)} detections on {len(self.images)} images"
