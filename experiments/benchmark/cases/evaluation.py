"""The case of COCO evaluation, with random objects and detections near them."""

import contextlib
import importlib.util
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator
from detectron2.structures import Boxes, BoxMode, Instances

from experiments.benchmark.case import Case, Implementation
from experiments.benchmark.random_inputs import random_objects
from experiments.benchmark.setting import Setting
from focal_retina.evaluation.box_evaluator import BoxEvaluator

DATASET = "focal_retina_benchmark"
OBJECTS_PER_IMAGE = 7
DETECTIONS_PER_IMAGE = 100


def evaluation_cases(setting: Setting) -> Iterator[Case]:
    """Yield ``evaluate()`` of evaluators that have all detections; ours reads the json in it."""
    images = [
        random_objects(setting, OBJECTS_PER_IMAGE, seed).to("cpu")
        for seed in range(setting.num_evaluation_images)
    ]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        json_file = Path(folder) / "instances.json"
        json_file.write_text(json.dumps(_coco_content(images, setting)))
        # Category ids are classes, without a mapping: COCOEvaluator would map the detections in
        # place, once more in every run.
        MetadataCatalog.get(DATASET).set(json_file=str(json_file))
        stack.callback(MetadataCatalog.remove, DATASET)
        evaluators = {
            "pycocotools": COCOEvaluator(DATASET, tasks=("bbox",), use_fast_impl=False),
            "focal_retina (hotcoco)": BoxEvaluator(DATASET),
        }
        if importlib.util.find_spec("faster_coco_eval"):
            evaluators["faster-coco-eval"] = _FasterCOCOEvaluator(DATASET, tasks=("bbox",))
        implementations = {name: _evaluation(x, images) for name, x in evaluators.items()}
        name = f"{DETECTIONS_PER_IMAGE} detections per image"
        yield Case("evaluation", name, "pycocotools", implementations)


class _FasterCOCOEvaluator(COCOEvaluator):
    """Detectron2's evaluator with the classes of faster-coco-eval."""

    def __init__(self, dataset_name: str, **kwargs):
        from faster_coco_eval import COCO

        super().__init__(dataset_name, use_fast_impl=False, **kwargs)
        self._coco_api = COCO(self._coco_api.dataset)

    def evaluate(self, img_ids=None) -> dict:
        from faster_coco_eval import COCOeval_faster

        with mock.patch("detectron2.evaluation.coco_evaluation.COCOeval", COCOeval_faster):
            return super().evaluate(img_ids)


def _evaluation(evaluator: DatasetEvaluator, images: list[Instances]) -> Implementation:
    evaluator.reset()
    for image_id, objects in enumerate(images):
        detections = _detections_near(objects, seed=image_id)
        evaluator.process([{"image_id": image_id}], [{"instances": detections}])

    def run() -> dict[str, dict[str, float]]:
        with contextlib.redirect_stdout(io.StringIO()):
            return evaluator.evaluate()

    return Implementation(run)


def _detections_near(objects: Instances, seed: int) -> Instances:
    """Return detections around random objects, half of them with the object's class."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(objects), (DETECTIONS_PER_IMAGE,), generator=generator)
    boxes = objects.gt_boxes.tensor[chosen]
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    other_class = objects.gt_classes[chosen.flip(0)]
    detections = Instances(objects.image_size)
    noise = torch.randn(boxes.shape, generator=generator) * 0.1
    detections.pred_boxes = Boxes(boxes + noise * sides)
    detections.scores = torch.rand(DETECTIONS_PER_IMAGE, generator=generator)
    is_own_class = torch.rand(DETECTIONS_PER_IMAGE, generator=generator) < 0.5
    detections.pred_classes = objects.gt_classes[chosen].where(is_own_class, other_class)
    return detections


def _coco_content(images: list[Instances], setting: Setting) -> dict[str, list[dict]]:
    size = {"height": setting.height, "width": setting.width}
    annotations = []
    for image_id, objects in enumerate(images):
        boxes = BoxMode.convert(objects.gt_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
        for box, label in zip(boxes.tolist(), objects.gt_classes.tolist(), strict=True):
            ids = {"image_id": image_id, "category_id": label}
            annotations.append({**ids, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    for annotation_id, annotation in enumerate(annotations, start=1):  # 0 would mean no match
        annotation["id"] = annotation_id
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", **size} for i in range(len(images))],
        "annotations": annotations,
        "categories": [{"id": i, "name": str(i)} for i in range(setting.num_classes)],
    }
