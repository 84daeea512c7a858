"""faster-coco-eval gives Detectron2's results, and its absence is said."""

import logging

import pytest
import torch
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances
from helpers.small_datasets import write_json

from focal_retina.evaluation import evaluators


@pytest.fixture
def content(tmp_path):
    """A dataset "boxes" of three classes, small to large, one box a crowd; the last image empty."""
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 400, "width": 400} for i in range(12)]
    boxes = torch.rand(66, 4, generator=torch.Generator().manual_seed(0)) * 180 + 2
    annotations = [
        {"id": i + 1, "image_id": i // 6, "category_id": 1 + 2 * (i % 3)}
        | {"bbox": box, "area": box[2] * box[3], "iscrowd": int(i == 5)}
        for i, box in enumerate(boxes.tolist())
    ]
    categories = [{"id": 1 + 2 * i, "name": name} for i, name in enumerate("abc")]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = write_json(tmp_path / "instances.json", content)
    register_coco_instances("boxes", {}, path, str(tmp_path))
    return content


def detections_near(content, image, noise):
    generator = torch.Generator().manual_seed(image["id"])
    boxes = [a["bbox"] for a in content["annotations"] if a["image_id"] == image["id"]] * 3
    boxes = torch.tensor(boxes).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Instances(
        (400, 400),
        pred_boxes=Boxes(boxes + torch.randn(boxes.shape, generator=generator) * noise),
        scores=torch.rand(len(boxes), generator=generator),
        pred_classes=torch.randint(3, (len(boxes),), generator=generator),
    )


def evaluate(evaluator, content, noise):
    evaluator.reset()
    for image in content["images"]:
        inputs = {"image_id": image["id"]}
        evaluator.process([inputs], [{"instances": detections_near(content, image, noise)}])
    return evaluator.evaluate()["bbox"]


@pytest.mark.parametrize("noise", [0.0, 3.0, 40.0])
def test_results_are_those_of_pycocotools(content, tmp_path, noise):
    slow = evaluate(COCOEvaluator("boxes", output_dir=str(tmp_path)), content, noise)
    fast = evaluate(evaluators.build_evaluator("boxes", str(tmp_path)), content, noise)
    assert list(fast) == list(slow)
    assert fast == pytest.approx(slow, rel=1e-12, nan_ok=True)
    assert 0 <= fast["AP"] < 100 or noise == 0.0


def test_without_faster_coco_eval_detectron2s_evaluator_is_used_and_that_is_logged(
    content, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(evaluators, "COCO", None)
    with caplog.at_level(logging.INFO):
        evaluator = evaluators.build_evaluator("boxes", str(tmp_path))
    assert type(evaluator) is COCOEvaluator
    assert "focal_retina[eval]" in caplog.text
