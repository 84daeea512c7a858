"""Detections of augmented images are merged by one plain rule."""

import pytest
import torch
from detectron2.modeling import DatasetMapperTTA
from detectron2.structures import Boxes, pairwise_iou
from helpers.small_models import tiny_model

from focal_retina.modeling.test_time_augmentation import FocalRetinaNetWithTTA


@pytest.fixture(scope="module")
def model():
    """A model that detects many boxes of two classes in noise."""
    model = tiny_model({"MODEL.RETINANET.NUM_CLASSES": 2}).eval()
    torch.nn.init.normal_(model.head.cls_score.weight, std=0.3)
    torch.nn.init.normal_(model.head.bbox_pred.weight, std=0.02)
    model.postprocessor.max_detections = 40
    return model


def with_tta(model, min_sizes=(64, 96), flip=True):
    mapper = DatasetMapperTTA(min_sizes=list(min_sizes), max_size=200, flip=flip)
    return FocalRetinaNetWithTTA(model, mapper)


def noise(height=64, width=80):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (3, height, width), generator=generator, dtype=torch.uint8)


def test_merged_detections_are_the_best_of_each_class_that_no_better_one_overlaps(model):
    height, width, inputs = 128, 160, {"image": noise(), "height": 128, "width": 160}
    seen = []
    for augmented in DatasetMapperTTA(min_sizes=[64, 96], max_size=200, flip=True)(inputs):
        h, w = augmented["image"].shape[-2:]
        found = model([{"image": augmented["image"]}])[0]["instances"]
        x1, y1, x2, y2 = found.pred_boxes.tensor.unbind(1)
        if len(augmented["transforms"].transforms) == 3:  # resize, resize, flip
            x1, x2 = w - x2, w - x1
        boxes = torch.stack([x1 * width / w, y1 * height / h, x2 * width / w, y2 * height / h], 1)
        seen += zip(found.scores.tolist(), found.pred_classes.tolist(), boxes, strict=True)
    assert len(seen) > 100
    kept = []
    for score, cls, box in sorted(seen, key=lambda x: -x[0]):
        rivals = [b for _, c, b in kept if c == cls]
        ious = [pairwise_iou(Boxes(box[None]), Boxes(b[None])).item() for b in rivals]
        if all(iou <= 0.5 for iou in ious):
            kept.append((score, cls, box))
    scores, classes, boxes = zip(*kept[:40], strict=True)

    merged = with_tta(model)([inputs])[0]["instances"]
    assert merged.image_size == (height, width)
    torch.testing.assert_close(merged.scores, torch.tensor(scores))
    assert merged.pred_classes.tolist() == list(classes)
    torch.testing.assert_close(merged.pred_boxes.tensor, torch.stack(boxes), atol=1e-3, rtol=0)


def test_flip_of_a_symmetric_image_gives_symmetric_boxes(model, monkeypatch):
    # Without suppression, of which a box and its own mirror image could be victims.
    monkeypatch.setattr(model.postprocessor, "nms_thresh", 1.0)
    half = noise(64, 40)
    image = torch.cat([half, half.flip(2)], dim=2)
    merged = with_tta(model, min_sizes=[64])([{"image": image}])[0]["instances"]
    x1, y1, x2, y2 = merged.pred_boxes.tensor.unbind(1)
    mirrored = torch.stack([80 - x2, y1, 80 - x1, y2], dim=1)
    assert len(merged) == 40

    def rows(boxes):
        columns = [merged.scores, merged.pred_classes, *boxes.unbind(1)]
        return sorted(tuple(round(float(v), 3) for v in row) for row in zip(*columns, strict=True))

    assert rows(mirrored) == rows(merged.pred_boxes.tensor)


def test_one_augmentation_that_changes_nothing_gives_the_models_own_detections(model, monkeypatch):
    # Without suppression: merging sees boxes that are clipped, and so may overlap more.
    monkeypatch.setattr(model.postprocessor, "nms_thresh", 1.0)
    inputs = [{"image": noise(), "height": 64, "width": 80}, {"image": noise(80, 64)}]
    for x, merged in zip(inputs, with_tta(model, [64], flip=False)(inputs), strict=True):
        merged, plain = merged["instances"], model([x])[0]["instances"]
        assert len(plain) > 0
        torch.testing.assert_close(merged.scores, plain.scores)
        torch.testing.assert_close(merged.pred_boxes.tensor, plain.pred_boxes.tensor)


def test_an_image_without_detections_has_none(model, monkeypatch):
    monkeypatch.setattr(model.postprocessor, "score_thresh", 1.0)
    inputs = {"image": noise(), "height": 30, "width": 40}
    merged = with_tta(model)([inputs])[0]["instances"]
    assert len(merged) == 0 and merged.image_size == (30, 40)


def test_the_caller_s_inputs_stay_as_they_are(model):
    inputs = {"image": noise()}
    with_tta(model)([inputs])
    assert list(inputs) == ["image"] and torch.equal(inputs["image"], noise())
