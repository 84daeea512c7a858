"""FocalRetinaNet as modules from one tensor to a few tensors, which can be exported.

Letters: N images, K classes, R anchors of all levels, n detections of all images.
"""

import math

import torch
import torch.nn.functional as F
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image, nms

from focal_retina.modeling.anchors import anchors_of_level
from focal_retina.modeling.retinanet import FocalRetinaNet
from focal_retina.ops.candidates import softmax_log_odds


class RawOutputs(nn.Module):
    """The head's outputs for every anchor.

    Args:
        model: on one device, in eval mode.
    """

    # Names of the outputs -> names of their dimensions that differ from batch to batch.
    _per_anchor = {0: "batch", 1: "anchors"}
    output_axes = {"logits": _per_anchor, "deltas": _per_anchor, "anchors": {0: "anchors"}}

    def __init__(self, model: FocalRetinaNet):
        super().__init__()
        self.model = model
        self.size_divisibility = model.preprocessor.divisibility(model.backbone)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return ``logits`` (N, R, K), ``deltas`` (N, R, 4) and ``anchors`` (R, 4), xyxy, pixels.

        The sigmoid of a logit is the score of its class, also with a background logit.

        Args:
            images: (N, 3, H, W), float32, 0 to 255, channels in the config's ``INPUT.FORMAT``; N
                is any number from 1 on, H and W any multiples of ``size_divisibility``.
        """
        anchors, logits, deltas = self._levels(images)
        num_images, num_classes = images.shape[0], self.model.num_classes
        logits = [_by_anchor(x).reshape(num_images, -1, num_classes) for x in logits]
        deltas = [_by_anchor(x).reshape(num_images, -1, 4) for x in deltas]
        return torch.cat(logits, 1), torch.cat(deltas, 1), torch.cat(anchors)

    def _levels(self, images: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        model = self.model
        features = model.features(model.preprocessor.normalize(images))
        logits, deltas = model.head(features)
        if model.postprocessor.background_logit:
            logits = [softmax_log_odds(x, model.num_classes) for x in logits]
        return self._anchors(features), logits, deltas

    def _anchors(self, features: list[Tensor]) -> list[Tensor]:
        generator = self.model.anchor_generator
        if type(generator) is DefaultAnchorGenerator:
            levels = zip(generator.cell_anchors, generator.strides, features, strict=True)
            return [
                anchors_of_level(cell, generator.offset * stride, x.shape[-2:], (stride, stride))
                for cell, stride, x in levels
            ]
        return [boxes.tensor for boxes in generator(features)]


class Detections(RawOutputs):
    """The detections of ``FocalRetinaNet``, clipped to the image; the graph has its postprocessing.

    No branch depends on a value, and no size becomes a Python number. So a trace holds for every
    image size, batch and number of detections.
    """

    output_axes = {x: {0: "detections"} for x in ("boxes", "scores", "classes", "image_idxs")}

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return ``boxes`` (n, 4), ``scores``, ``classes`` and ``image_idxs``, (n,) each.

        Boxes are xyxy, in pixels of ``images``; classes and image_idxs are int64. Detections are
        sorted by image, and then by descending score. ``images`` are those of ``RawOutputs``.
        """
        settings = self.model.postprocessor
        anchors, logits, deltas = self._levels(images)
        threshs = settings.score_thresholds(len(logits))
        levels = map(self._candidates, anchors, logits, deltas, threshs)
        boxes, scores, classes, image_idxs = map(torch.cat, zip(*levels, strict=True))
        size = images.shape[-2:]
        if settings.clip_before_nms:
            boxes = clip_boxes_to_image(boxes, size)
        apart = boxes + self._offsets(boxes, classes, image_idxs)
        # torchvision promises torch.export that NMS keeps at least two boxes. So two empty ones are
        # appended: nothing suppresses them, and their score puts them last.
        apart, padded = F.pad(apart, (0, 0, 0, 2)), F.pad(scores, (0, 2), value=-1.0)
        keep = nms(apart, padded, settings.nms_thresh)[:-2]
        keep = keep[_best_of_each_image(image_idxs[keep], images, settings.max_detections)]
        boxes = clip_boxes_to_image(boxes[keep], size)
        is_nonempty = (boxes[:, 2:] > boxes[:, :2]).all(1)
        keep = keep[is_nonempty]
        return boxes[is_nonempty], scores[keep], classes[keep], image_idxs[keep]

    def _candidates(self, anchors: Tensor, logits: Tensor, deltas: Tensor, score_thresh: float):
        """Return boxes, scores, classes and image_idxs of a level's highest scores."""
        settings, num_classes = self.model.postprocessor, self.model.num_classes
        # Padding serves maps with fewer logits than topk.
        logits = F.pad(_by_anchor(logits), (0, settings.topk_candidates), value=-torch.inf)
        logits, idxs = logits.topk(settings.topk_candidates)
        scores = logits.sigmoid()
        is_candidate = (scores > score_thresh) & (logits > -torch.inf)
        image_idxs, ranks = is_candidate.nonzero().unbind(1)
        scores, idxs = scores[image_idxs, ranks], idxs[image_idxs, ranks]
        anchor_idxs = torch.div(idxs, num_classes, rounding_mode="floor")
        deltas = _by_anchor(deltas).reshape(deltas.shape[0], -1, 4)[image_idxs, anchor_idxs]
        boxes = settings.box2box_transform.apply_deltas(deltas, anchors[anchor_idxs])
        return boxes, scores, idxs % num_classes, image_idxs

    def _offsets(self, boxes: Tensor, classes: Tensor, image_idxs: Tensor) -> Tensor:
        """Return offsets (n, 4) that keep boxes of different classes or images from overlapping.

        Then a single NMS is enough, as in torchvision's ``batched_nms``. That lays the classes out
        in a row; in a grid, coordinates are smaller and float32 rounds them less.
        """
        columns = math.ceil(math.sqrt(self.model.num_classes))
        rows = torch.div(classes, columns, rounding_mode="floor") + image_idxs * columns
        cells = torch.stack([classes % columns, rows], dim=1)
        padded = F.pad(boxes, (0, 0, 0, 1))  # an empty tensor has no maximum
        return (cells * (padded.max() - padded.min() + 1)).repeat(1, 2)


def _by_anchor(per_level: Tensor) -> Tensor:
    """Return (N, H*W*A*D), float32, of a map (N, A*D, H, W)."""
    # An explicit copy: flatten alone copies or not depending on the traced sizes.
    by_anchor = per_level.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)
    return by_anchor.flatten(1).float()


def _best_of_each_image(image_idxs: Tensor, images: Tensor, count: int) -> Tensor:
    """Return the indices of each image's first ``count`` detections, sorted by image."""
    is_of_image = image_idxs[:, None] == torch.arange(images.shape[0], device=images.device)
    is_kept = is_of_image & (is_of_image.long().cumsum(0) <= count)  # (n, N)
    return is_kept.t().nonzero()[:, 1]
