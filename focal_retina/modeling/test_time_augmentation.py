"""Test-time augmentation: detections of several sizes and of mirrored images, merged."""

from collections.abc import Callable
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from detectron2.data.transforms import TransformList
from detectron2.layers import batched_nms
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

if TYPE_CHECKING:
    from focal_retina.modeling.retinanet import FocalRetinaNet


class FocalRetinaNetWithTTA(nn.Module):
    """A ``FocalRetinaNet`` that sees each image several times.

    Detections of all augmented images are mapped back to the image asked for and merged by NMS, as
    in Detectron2's ``GeneralizedRCNNWithTTA``, with the limits of the model's postprocessor.

    Args:
        model: not a ``DistributedDataParallel``.
        tta_mapper: from a dict of the data loader to the same for each augmentation, with
            "transforms" that lead to it; Detectron2's ``DatasetMapperTTA(cfg)``.
    """

    def __init__(self, model: "FocalRetinaNet", tta_mapper: Callable[[dict], list[dict]]):
        super().__init__()
        self.model, self.tta_mapper = model, tta_mapper

    @torch.no_grad()
    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        """Return one ``{"instances": Instances}`` per image, as ``FocalRetinaNet`` at test."""
        return [{"instances": self._detect(inputs)} for inputs in batched_inputs]

    def _detect(self, inputs: dict) -> Instances:
        height, width = inputs["image"].shape[-2:]
        size = (inputs.get("height", height), inputs.get("width", width))
        augmented = self.tta_mapper({**inputs, "height": size[0], "width": size[1]})
        # Only images of one size form a batch, so that none is padded.
        groups = [list(group) for _, group in groupby(augmented, lambda x: x["image"].shape)]
        detections = [found for group in groups for found in self._detect_augmented(group)]
        boxes, scores, classes = (torch.cat(x) for x in zip(*detections, strict=True))
        boxes = Boxes(boxes)
        boxes.clip(size)
        limits = self.model.postprocessor
        keep = batched_nms(boxes.tensor, scores, classes, limits.nms_thresh)
        keep = keep[: limits.max_detections]
        found = {"pred_boxes": boxes[keep], "scores": scores[keep], "pred_classes": classes[keep]}
        return Instances(size, **found)

    def _detect_augmented(self, augmented: list[dict]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return boxes, mapped back, scores and classes of each of the augmented images."""
        height, width = augmented[0]["image"].shape[-2:]
        outputs = self.model([{**x, "height": height, "width": width} for x in augmented])
        found = [x["instances"] for x in outputs]
        return [
            (_map_back(d.pred_boxes.tensor, x["transforms"]), d.scores, d.pred_classes)
            for x, d in zip(augmented, found, strict=True)
        ]


def _map_back(boxes: Tensor, transforms: TransformList) -> Tensor:
    mapped = transforms.inverse().apply_box(boxes.cpu().numpy())
    return torch.as_tensor(mapped, dtype=boxes.dtype, device=boxes.device)
