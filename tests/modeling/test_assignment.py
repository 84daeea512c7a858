"""Labels say class, background or ignore, whatever the rule."""

import pytest
import torch
from detectron2.structures import Boxes, Instances

from focal_retina.modeling.anchors import OctaveAnchorGenerator
from focal_retina.modeling.assignment import AnchorAssigner
from focal_retina.ops.matching.lattice import AnchorLattice

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


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_objects_of_class_minus_one_are_ignored_and_those_of_class_k_background(backend):
    generator = OctaveAnchorGenerator(base_sizes=[[16], [32]], strides=[8, 16])
    grids = [(12, 15), (6, 8)]
    anchors = Boxes.cat(generator([torch.zeros(1, 1, *grid) for grid in grids])).tensor
    boxes = [[3.0, 5, 22, 21], [40, 30, 71, 66], [60, 8, 100, 60], [2, 50, 40, 90]]
    assigner = AnchorAssigner(num_classes=5, backend=backend)

    def assign(*classes):
        return assigner(anchors, [objects(boxes, classes)], AnchorLattice.of(generator, grids))

    plain, found = assign(0, 1, 2, 4), assign(0, -1, 5, 4)
    labels, was = found.gt_labels[0], plain.gt_labels[0]
    assert all((was == k).any() for k in (0, 1, 2, 4))
    assert torch.equal(labels, was.where(was != 1, -1).where(was != 2, 5))
    assert torch.equal(found.anchor_idxs, ((labels == 0) | (labels == 4)).nonzero()[:, 0])
    assert found.num_foreground.tolist() == [len(found.gt_boxes)]
    assert {tuple(box) for box in found.gt_boxes.tolist()} == {tuple(boxes[0]), tuple(boxes[3])}


def test_a_region_to_ignore_that_no_anchor_is_matched_with_is_no_unmatched_object():
    assigner = AnchorAssigner(num_classes=7, low_quality_matches="none")
    far = [[80.0, 80, 90, 90]] * 3
    assert assigner(ANCHORS, [objects(far, [-1, 7, 2])]).num_unmatched.tolist() == [1]
