"""faster-coco-eval gives Detectron2's results, and its absence is said."""

import json
import logging

import pytest
import torch
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances

from focal_retina.evaluation import evaluators as evaluation


def write_dataset(folder, num_images=12):
    """Write boxes of three classes, small to large, one of them a crowd; the last image empty."""
    generator = torch.Generator().manual_seed(0)
    size = {"height": 400, "width": 400}
    images = [{"id": i, "file_name": f"{i}.jpg", **size} for i in range(num_images)]
    boxes = torch.rand(6 * (num_images - 1), 4, generator=generator) * 180 + 2
    annotations = [
        {
            **{"id": i + 1, "image_id": i // 6, "category_id": 1 + 2 * (i % 3)},
            **{"bbox": box, "area": box[2] * box[3], "iscrowd": int(i == 5)},
        }
        for i, box in enumerate(boxes.tolist())
    ]
    categories = [{"id": 1 + 2 * i, "name": name} for i, name in enumerate("abc")]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path, content


def detections_near(content, image, noise):
    generator = torch.Generator().manual_seed(image["id"])
    boxes = [a["bbox"] for a in content["annotations"] if a["image_id"] == image["id"]] * 3
    boxes = torch.tensor(boxes).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    boxes = boxes + torch.randn(boxes.shape, generator=generator) * noise
    detections = Instances((400, 400))
    detections.pred_boxes = Boxes(boxes)
    detections.scores = torch.rand(len(boxes), generator=generator)
    detections.pred_classes = torch.randint(3, (len(boxes),), generator=generator)
    return detections


def evaluate(evaluator, content, noise):
    evaluator.reset()
    for image in content["images"]:
        inputs = {"image_id": image["id"]}
        evaluator.process([inputs], [{"instances": detections_near(content, image, noise)}])
    return evaluator.evaluate()["bbox"]


@pytest.mark.parametrize("noise", [0.0, 3.0, 40.0])
def test_results_are_those_of_pycocotools(tmp_path, noise):
    path, content = write_dataset(tmp_path)
    name = f"evaluation_test_{tmp_path.name}"
    register_coco_instances(name, {}, str(path), str(tmp_path))
    slow = evaluate(COCOEvaluator(name, output_dir=str(tmp_path)), content, noise)
    fast = evaluate(evaluation.build_evaluator(name, str(tmp_path)), content, noise)
    assert list(fast) == list(slow)
    assert fast == pytest.approx(slow, rel=1e-12, nan_ok=True)
    assert 0 <= fast["AP"] < 100 or noise == 0.0


def test_without_faster_coco_eval_detectron2s_evaluator_is_used_and_that_is_logged(
    tmp_path, monkeypatch, caplog
):
    path, content = write_dataset(tmp_path)
    register_coco_instances("evaluation_test_fallback", {}, str(path), str(tmp_path))
    monkeypatch.setattr(evaluation, "COCO", None)
    with caplog.at_level(logging.INFO):
        evaluator = evaluation.build_evaluator("evaluation_test_fallback", str(tmp_path))
    assert type(evaluator) is COCOEvaluator
    assert "focal_retina[eval]" in caplog.text
