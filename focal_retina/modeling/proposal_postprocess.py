"""Logits and deltas of one class -> proposals, by the rules of Detectron2's RPN."""

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from detectron2.structures import Boxes, Instances
from torch import Tensor

from focal_retina.ops.candidates import at_most
from focal_retina.ops.gather import gather_deltas


class ProposalPostprocessor:
    """Keep the best of each level, decode, suppress within each level, keep the best.

    Args:
        box2box_transform: deltas to boxes.
        pre_nms_topk: proposals of each level before NMS, in training and at test.
        post_nms_topk: proposals of each image after NMS, in training and at test.
        nms_thresh: NMS drops a box whose IoU with a better one of its level is above it.
        min_box_size: drop proposals with a side that is not longer, pixels.
    """

    @configurable
    def __init__(
        self,
        *,
        box2box_transform: Box2BoxTransform,
        pre_nms_topk: tuple[int, int],
        post_nms_topk: tuple[int, int],
        nms_thresh: float = 0.7,
        min_box_size: float = 0.0,
    ):
        self.box2box_transform = box2box_transform
        self.pre_nms_topk, self.post_nms_topk = pre_nms_topk, post_nms_topk
        self.nms_thresh, self.min_box_size = nms_thresh, float(min_box_size)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        rpn = cfg.MODEL.RPN
        return {
            "box2box_transform": Box2BoxTransform(weights=rpn.BBOX_REG_WEIGHTS),
            "pre_nms_topk": (rpn.PRE_NMS_TOPK_TRAIN, rpn.PRE_NMS_TOPK_TEST),
            "post_nms_topk": (rpn.POST_NMS_TOPK_TRAIN, rpn.POST_NMS_TOPK_TEST),
            "nms_thresh": rpn.NMS_THRESH,
            "min_box_size": cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE,
        }

    @torch.no_grad()
    def __call__(
        self,
        anchors: list[Boxes],
        logits: list[Tensor],
        deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
        training: bool,
    ) -> list[Instances]:
        """Return ``proposal_boxes`` and ``objectness_logits``, descending, of each image.

        Args:
            anchors, logits, deltas, image_sizes: see ``HeadOutputs``; K is 1.
            training: use the counts for training. Infinite logits or deltas then raise a
                FloatingPointError.
        """
        counts = (self.pre_nms_topk, self.post_nms_topk)
        pre_nms, post_nms = (train if training else test for train, test in counts)
        levels = zip(anchors, logits, deltas, strict=True)
        best = (self._best_of_level(*level, pre_nms) for level in levels)
        boxes, scores = zip(*best, strict=True)
        limits = (self.nms_thresh, pre_nms, post_nms, self.min_box_size)
        return find_top_rpn_proposals(boxes, scores, image_sizes, *limits, training)

    def _best_of_level(
        self, anchors: Boxes, logits: Tensor, deltas: Tensor, topk: int
    ) -> tuple[Tensor, Tensor]:
        """Return boxes (N, k, 4) and logits (N, k), float32, of a level's k best anchors."""
        scores = logits.permute(0, 2, 3, 1).flatten(1).float()  # (N, HWA)
        scores, idxs = scores.topk(at_most(topk, scores.shape[1]), dim=1)
        boxes = [
            self.box2box_transform.apply_deltas(gather_deltas(d, i), anchors.tensor[i])
            for d, i in zip(deltas, idxs, strict=True)
        ]
        return torch.stack(boxes), scores
