"""Cases of labelling: anchors and objects -> labels and matched boxes."""

from collections.abc import Iterator
from functools import partial

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from torchvision.ops import box_iou

from experiments.benchmark.case import Case, Implementation
from experiments.benchmark.random_inputs import random_objects
from experiments.benchmark.retinanets import all_retinanets
from experiments.benchmark.setting import Setting
from focal_retina.modeling.assignment import Assignment
from focal_retina.ops.matching.lattice import AnchorLattice


def labelling_cases(setting: Setting) -> Iterator[Case]:
    """Yield the labelling of one image's anchors for each of ``setting.num_objects``."""
    detectron2, torchvision, ours = all_retinanets(setting)
    features = [torch.zeros(1, 1, *size, device=setting.device) for size in setting.grid_sizes]
    anchors = detectron2.anchor_generator(features)
    for count in setting.num_objects:
        objects = random_objects(setting, count)
        implementations = {
            "Detectron2": Implementation(
                partial(detectron2.label_anchors, anchors, [objects]),
                partial(_result_of_detectron2, num_classes=setting.num_classes),
            ),
            "torchvision": Implementation(
                partial(_torchvision_matches, torchvision, anchors, objects),
                partial(_result_of_torchvision, objects=objects, num_classes=setting.num_classes),
            ),
            "focal_retina": Implementation(
                partial(_our_assignment, ours, anchors, objects, setting.grid_sizes),
                _result_of_ours,
            ),
        }
        yield Case("labelling", f"objects: {count}", "Detectron2", implementations)


def _our_assignment(
    model: nn.Module, anchors: list[Boxes], objects: Instances, grid_sizes: list[tuple[int, int]]
) -> Assignment:
    lattice = AnchorLattice.of(model.anchor_generator, grid_sizes)
    return model.assigner(Boxes.cat(anchors).tensor, [objects], lattice)


def _torchvision_matches(model: nn.Module, anchors: list[Boxes], objects: Instances) -> Tensor:
    # This is the first half of torchvision's RetinaNet.compute_loss.
    ious = box_iou(objects.gt_boxes.tensor, Boxes.cat(anchors).tensor)
    return model.proposal_matcher(ious)


def _result_of_ours(assignment: Assignment) -> dict[str, Tensor]:
    return {"gt_labels": assignment.gt_labels[0], "gt_boxes": assignment.gt_boxes}


def _result_of_detectron2(returned: tuple, num_classes: int) -> dict[str, Tensor]:
    (gt_labels,), (gt_boxes,) = returned
    is_foreground = (gt_labels >= 0) & (gt_labels < num_classes)
    return {"gt_labels": gt_labels, "gt_boxes": gt_boxes[is_foreground]}


def _result_of_torchvision(
    matches: Tensor, objects: Instances, num_classes: int
) -> dict[str, Tensor]:
    gt_labels = objects.gt_classes[matches.clamp(min=0)]
    gt_labels[matches == -1] = num_classes
    gt_labels[matches == -2] = -1
    return {"gt_labels": gt_labels, "gt_boxes": objects.gt_boxes.tensor[matches[matches >= 0]]}
