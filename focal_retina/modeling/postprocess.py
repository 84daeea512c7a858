"""Logits and deltas -> detections (paper Sec. 4.1, "Inference")."""

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import batched_nms
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from focal_retina.config import focal_retina_node, has_background_logit
from focal_retina.ops.candidates import select_candidates, softmax_log_odds
from focal_retina.ops.gather import gather_deltas


class DetectionPostprocessor:
    """Threshold, keep the best of each level, decode, suppress per class.

    Args:
        num_classes: K.
        box2box_transform: deltas to boxes.
        score_thresh: keep scores above it, in [0, 1].
        score_thresh_last_level: the same for the coarsest level; None for ``score_thresh``.
            Detectron has 0, so that large objects of low score are never lost.
        topk_candidates: at most so many of each level before decoding.
        nms_thresh: NMS drops a box whose IoU with a better one of its class is above it.
        max_detections: at most so many of each image.
        clip_before_nms: clip boxes to the image before NMS.
        backend: see ``ops.backend.resolve_backend``.
        background_logit: logits are L x (N, A*(K+1), H, W), and scores their softmax.
    """

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        box2box_transform: Box2BoxTransform,
        score_thresh: float = 0.05,
        score_thresh_last_level: float | None = None,
        topk_candidates: int = 1000,
        nms_thresh: float = 0.5,
        max_detections: int = 100,
        clip_before_nms: bool = False,
        backend: str = "auto",
        background_logit: bool = False,
    ):
        self.num_classes, self.background_logit = num_classes, background_logit
        self.box2box_transform, self.backend = box2box_transform, backend
        self.score_thresh = score_thresh
        self.score_thresh_last_level = score_thresh_last_level
        self.topk_candidates, self.max_detections = topk_candidates, max_detections
        self.nms_thresh, self.clip_before_nms = nms_thresh, clip_before_nms

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        retinanet, node = cfg.MODEL.RETINANET, focal_retina_node(cfg)
        return {
            "num_classes": retinanet.NUM_CLASSES,
            "box2box_transform": Box2BoxTransform(weights=retinanet.BBOX_REG_WEIGHTS),
            "score_thresh": retinanet.SCORE_THRESH_TEST,
            "score_thresh_last_level": node.SCORE_THRESH_TEST_LAST_LEVEL,
            "topk_candidates": retinanet.TOPK_CANDIDATES_TEST,
            "nms_thresh": retinanet.NMS_THRESH_TEST,
            "max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
            "clip_before_nms": node.CLIP_BEFORE_NMS,
            "backend": node.BACKEND,
            "background_logit": has_background_logit(cfg),
        }

    @torch.no_grad()
    def __call__(
        self,
        anchors: list[Boxes],
        logits: list[Tensor],
        deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Return one ``Instances`` per image, by descending score, in fp32.

        Each has ``pred_boxes`` (pixels of the network's input, xyxy, not clipped unless
        ``clip_before_nms``), ``scores`` and ``pred_classes``. Arguments: see ``HeadOutputs``.
        """
        with torch.autocast(logits[0].device.type, enabled=False):
            if self.background_logit:
                logits = [softmax_log_odds(x, self.num_classes) for x in logits]
            return [
                self._detect(anchors, [x[i] for x in logits], [d[i] for d in deltas], size)
                for i, size in enumerate(image_sizes)
            ]

    def _detect(
        self, anchors: list[Boxes], logits: list[Tensor], deltas: list[Tensor], size: tuple
    ) -> Instances:
        levels = zip(anchors, logits, deltas, self.score_thresholds(len(logits)), strict=True)
        candidates = [self._decode_level(*level) for level in levels]
        boxes, scores, classes = (torch.cat(x) for x in zip(*candidates, strict=True))
        if self.clip_before_nms:
            boxes = clip_boxes_to_image(boxes, size)
        keep = batched_nms(boxes, scores, classes, self.nms_thresh)[: self.max_detections]
        found = {"scores": scores[keep], "pred_classes": classes[keep]}
        return Instances(size, pred_boxes=Boxes(boxes[keep]), **found)

    def score_thresholds(self, num_levels: int) -> list[float]:
        """Return what scores must be above, for each level, fine to coarse."""
        usual, last = self.score_thresh, self.score_thresh_last_level
        return [usual] * (num_levels - 1) + [usual if last is None else last]

    def _decode_level(
        self, anchors: Boxes, logits: Tensor, deltas: Tensor, score_thresh: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes (n, 4), scores (n,) and classes (n,) of a level's candidates."""
        scores, anchor_idxs, classes = select_candidates(
            logits,
            num_classes=self.num_classes,
            score_thresh=score_thresh,
            topk=self.topk_candidates,
            backend=self.backend,
        )
        deltas = gather_deltas(deltas, anchor_idxs)
        boxes = self.box2box_transform.apply_deltas(deltas, anchors.tensor[anchor_idxs])
        return boxes, scores, classes
