"""Labels say class, background or ignore, whatever the rule."""

import pytest
import torch
from detectron2.structures import Boxes, Instances

from focal_retina.modeling.assignment import AnchorAssigner

ANCHORS = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [50, 50, 60, 60]])


def objects(boxes, classes):
    boxes = torch.tensor(boxes).view(-1, 4)
    return Instances(
        (100, 100), gt_boxes=Boxes(boxes), gt_classes=torch.tensor(classes, dtype=torch.long)
    )


@pytest.mark.parametrize("lowest, expected", [(0, 7), (-1, -1)])
def test_without_objects_all_anchors_are_background_or_ignored_as_the_rule_says(lowest, expected):
    assigner = AnchorAssigner(num_classes=7, thresholds=(0.5,), labels=(lowest, 1))
    assignment = assigner(ANCHORS, [objects([], [])])
    assert assignment.gt_labels.tolist() == [[expected] * 3]
    assert len(assignment.anchor_idxs) == len(assignment.gt_boxes) == 0
    assert assignment.num_foreground.tolist() == assignment.num_unmatched.tolist() == [0]


def test_foreground_ignored_and_background_anchors_of_two_images():
    assigner = AnchorAssigner(num_classes=7, thresholds=(0.4, 0.6), low_quality_matches="none")
    box = [0.0, 0.0, 10.0, 10.0]
    images = [objects([box, [80.0, 80, 90, 90]], [3, 5]), objects([[50.0, 50, 60, 60]], [0])]
    assignment = assigner(ANCHORS, images)
    assert assignment.gt_labels.tolist() == [[3, -1, 7], [7, 7, 0]]
    assert assignment.image_idxs.tolist() == [0, 1]
    assert assignment.anchor_idxs.tolist() == [0, 2]
    assert assignment.gt_boxes.tolist() == [box, [50, 50, 60, 60]]
    assert assignment.num_unmatched.tolist() == [1, 0]
