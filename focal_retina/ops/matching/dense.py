"""Matching by the IoU of every object with every anchor: the reference of ``match_anchors``."""

import torch
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor

from focal_retina.ops.matching.rule import MatchRule


def match_dense(
    anchors: Tensor, gt_boxes: Tensor, rule: MatchRule, *, pairs_per_chunk: int = 1 << 20
) -> tuple[Tensor, Tensor]:
    """Do what ``match_anchors`` says, for any anchors, in about 60 bytes x ``pairs_per_chunk``.

    Each object is compared with all anchors at once, so that its highest IoU is known within its
    chunk. Only the best object of each anchor is carried from chunk to chunk.
    """
    best_ious = anchors.new_zeros(len(anchors))
    matches = torch.zeros_like(best_ious, dtype=torch.int64)
    low_quality = torch.zeros_like(best_ious, dtype=torch.bool)
    step = max(1, pairs_per_chunk // len(anchors))
    for start in range(0, len(gt_boxes), step):
        ious = pairwise_iou(Boxes(gt_boxes[start : start + step]), Boxes(anchors))
        chunk_ious, chunk_matches = ious.max(dim=0)
        # Strictly better only: the first object wins a tie, as in one max over all objects.
        matches = torch.where(chunk_ious > best_ious, chunk_matches + start, matches)
        best_ious = torch.maximum(chunk_ious, best_ious)
        highest = ious.amax(dim=1, keepdim=True)
        low_quality |= ((ious == highest) & (highest > 0)).any(dim=0)

    match_labels = rule.label(best_ious)
    if rule.low_quality_matches == "detectron1":
        low_quality &= best_ious >= rule.thresholds[0]
    if rule.low_quality_matches != "none":
        match_labels.masked_fill_(low_quality, 1)
    return matches, match_labels
