"""By which IoU an anchor is foreground, ignored or background."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from focal_retina.errors import UserError

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
        if not thresholds or thresholds != sorted(thresholds) or not thresholds[0] > 0:
            raise UserError(
                f"thresholds (MODEL.RETINANET.IOU_THRESHOLDS, MODEL.RPN.IOU_THRESHOLDS) is "
                f"{thresholds}; give ascending IoUs above 0"
            )
        if len(labels) != len(thresholds) + 1 or not set(labels) <= {-1, 0, 1}:
            raise UserError(
                f"labels (MODEL.RETINANET.IOU_LABELS, MODEL.RPN.IOU_LABELS) is {labels}; give "
                f"{len(thresholds) + 1} of -1, 0 and 1, one more than there are thresholds"
            )
        if self.low_quality_matches not in LOW_QUALITY_MATCHES:
            raise UserError(
                "low_quality_matches (MODEL.FOCAL_RETINA.LOW_QUALITY_MATCHES) is "
                f"{self.low_quality_matches!r}; choose one of {', '.join(LOW_QUALITY_MATCHES)}"
            )

    def label(self, ious: Tensor) -> Tensor:
        """Return the int8 label of the interval that each IoU lies in."""
        match_labels = torch.full_like(ious, self.labels[0], dtype=torch.int8)
        for threshold, label in zip(self.thresholds, self.labels[1:], strict=True):
            match_labels.masked_fill_(ious >= threshold, label)
        return match_labels
