"""What projects read from Detectron2's ``RetinaNet``, under its names."""

from operator import attrgetter
from typing import Any

import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

# Name -> where our parts keep it; setting it sets all places.
_PLACES = {
    "pixel_mean": ["preprocessor.pixel_mean"],
    "pixel_std": ["preprocessor.pixel_std"],
    "input_format": ["preprocessor.input_format"],
    "vis_period": ["monitor.vis_period"],
    "box2box_transform": ["postprocessor.box2box_transform", "loss.box2box_transform"],
    "focal_loss_alpha": ["loss.cls_loss.alpha"],
    "focal_loss_gamma": ["loss.cls_loss.gamma"],
    "smooth_l1_beta": ["loss.smooth_l1_beta"],
    "box_reg_loss_type": ["loss.box_reg_loss_type"],
    "test_score_thresh": ["postprocessor.score_thresh"],
    "test_topk_candidates": ["postprocessor.topk_candidates"],
    "test_nms_thresh": ["postprocessor.nms_thresh"],
    "max_detections_per_image": ["postprocessor.max_detections"],
}


class Detectron2Names(nn.Module):
    """Attributes and methods of Detectron2's ``RetinaNet``, from the parts of ``FocalRetinaNet``.

    What is off is None, for instance ``focal_loss_alpha``. Not here: what takes scores in the place
    of logits (``inference_single_image``, ``losses`` as there).
    """

    anchor_generator: Any
    assigner: Any
    backbone: Any
    loss: Any
    postprocessor: Any
    preprocessor: Any

    @property
    def anchor_matcher(self) -> Matcher:
        """Return Detectron2's matcher of the same rule; AttributeError where it has none."""
        rule = self.assigner.rule
        if rule.low_quality_matches == "detectron1":
            raise AttributeError
        is_low = rule.low_quality_matches == "detectron2"
        return Matcher(list(rule.thresholds), list(rule.labels), allow_low_quality_matches=is_low)

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Return the normalised, padded batch."""
        return self.preprocessor(batched_inputs, self.backbone)

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: tuple[list[Tensor], list[Tensor]],
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        """Return the losses of the head's predictions (logits, deltas), by name."""
        anchors = Boxes.cat(self.anchor_generator(features)).tensor
        return self.loss(*predictions, anchors, self.assigner(anchors, gt_instances))

    def forward_inference(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: tuple[list[Tensor], list[Tensor]],
    ) -> list[Instances]:
        """Return the detections of the head's predictions (logits, deltas), of each image."""
        anchors = self.anchor_generator(features)
        return self.postprocessor(anchors, *predictions, images.image_sizes)

    def label_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the labels, N x (R,), and boxes, N x (R, 4), of anchors; 0 if not foreground."""
        found = self.assigner(Boxes.cat(anchors).tensor, gt_instances)
        boxes = found.gt_boxes.new_zeros(*found.gt_labels.shape, 4)
        boxes[found.image_idxs, found.anchor_idxs] = found.gt_boxes
        return list(torch.unbind(found.gt_labels)), list(torch.unbind(boxes))


def _property(places: list[str]) -> property:
    def write(model: Detectron2Names, value: Any) -> None:
        for place in places:
            part, _, name = place.rpartition(".")
            setattr(attrgetter(part)(model), name, value)

    return property(attrgetter(places[0]), write, doc=f"``{places[0]}``")


for _name, _places in _PLACES.items():
    setattr(Detectron2Names, _name, _property(_places))
