"""By which IoU an anchor is foreground, ignored or background."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from focal_retina.errors import require, require_choice

LOW_QUALITY_MATCHES = ("none", "detectron1", "detectron2")


@dataclass(frozen=True)
class MatchRule:
    """IoU thresholds, the label of each interval between them, and an exception.

    Raises:
        UserError: unusable thresholds, labels or exception.
    """

    # T ascending IoUs above 0.
    thresholds: Sequence[float]
    # T + 1 labels, 1 foreground, 0 background, -1 ignore: ``labels[i]`` is for IoUs in
    # [``thresholds[i - 1]``, ``thresholds[i]``).
    labels: Sequence[int]
    # Which anchors become foreground, whatever their label, because no anchor has a higher IoU with
    # some object (all anchors of a tie): "none"; "detectron1", those whose highest IoU is at least
    # ``thresholds[0]``; "detectron2", all. Each stays matched with its own best object.
    low_quality_matches: str

    def __post_init__(self) -> None:
        thresholds, labels = list(self.thresholds), self.labels
        name = "thresholds (MODEL.RETINANET.IOU_THRESHOLDS, MODEL.RPN.IOU_THRESHOLDS)"
        is_right = thresholds == sorted(thresholds) and min(thresholds, default=0) > 0
        require(is_right, name, thresholds, "be ascending IoUs above 0")
        name = "labels (MODEL.RETINANET.IOU_LABELS, MODEL.RPN.IOU_LABELS)"
        is_right = len(labels) == len(thresholds) + 1 and set(labels) <= {-1, 0, 1}
        limit = f"be {len(thresholds) + 1} of -1, 0 and 1, one more than there are thresholds"
        require(is_right, name, labels, limit)
        name = "low_quality_matches (MODEL.FOCAL_RETINA.LOW_QUALITY_MATCHES)"
        require_choice(name, self.low_quality_matches, LOW_QUALITY_MATCHES)

    def label(self, ious: Tensor) -> Tensor:
        """Return the int8 label of the interval that each IoU lies in."""
        match_labels = torch.full_like(ious, self.labels[0], dtype=torch.int8)
        for threshold, label in zip(self.thresholds, self.labels[1:], strict=True):
            match_labels.masked_fill_(ious >= threshold, label)
        return match_labels
