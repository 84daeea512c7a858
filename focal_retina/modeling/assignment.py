"""Anchors and objects -> labels (paper Sec. 4, "Anchors")."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.structures import Instances
from torch import Tensor

from focal_retina.config import focal_retina_node
from focal_retina.ops.matching.lattice import AnchorLattice
from focal_retina.ops.matching.match_anchors import match_anchors
from focal_retina.ops.matching.rule import MatchRule

NO_INSTANCES = (
    'Instance annotations are missing in training! Each dict of the batch needs "instances", which '
    "Detectron2's DatasetMapper(cfg, is_train=True) adds"
)


class Assignment(NamedTuple):
    """Labels of all anchors of a batch, and the objects of its F foreground anchors."""

    gt_labels: Tensor  # (N, R) int64: -1 ignore, 0..K-1 class, K background
    image_idxs: Tensor  # (F,) int64, image of each foreground anchor, ascending
    anchor_idxs: Tensor  # (F,) int64, index into R, ascending within an image
    gt_boxes: Tensor  # (F, 4) float, pixels, xyxy: the object of each foreground anchor
    num_foreground: Tensor  # (N,) int64
    num_unmatched: Tensor  # (N,) int64, objects that no anchor is matched with


class AnchorAssigner:
    """Give every anchor the object it overlaps most, by IoU thresholds.

    Args:
        num_classes: K.
        thresholds: ascending IoU thresholds, in (0, 1]; the paper's are (.4, .5).
        labels: label of each interval between them: 0 background, -1 ignore, 1 foreground.
        low_quality_matches: which anchors below the foreground threshold become foreground since
            they are the best of an object: "none" (paper), "detectron1" or "detectron2"; see
            ``ops.matching.rule``.
        backend: see ``ops.backend.resolve_backend``.

    Raises:
        UserError: unusable thresholds, labels or low-quality matches.
    """

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        thresholds: Sequence[float] = (0.4, 0.5),
        labels: Sequence[int] = (0, -1, 1),
        low_quality_matches: str = "detectron2",
        backend: str = "auto",
    ):
        self.num_classes = num_classes
        self.rule = MatchRule(tuple(thresholds), tuple(labels), low_quality_matches)
        self.backend = backend

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = focal_retina_node(cfg)
        return {
            "num_classes": cfg.MODEL.RETINANET.NUM_CLASSES,
            "thresholds": cfg.MODEL.RETINANET.IOU_THRESHOLDS,
            "labels": cfg.MODEL.RETINANET.IOU_LABELS,
            "low_quality_matches": node.LOW_QUALITY_MATCHES,
            "backend": node.BACKEND,
        }

    @torch.no_grad()
    def __call__(
        self, anchors: Tensor, gt_instances: list[Instances], lattice: AnchorLattice | None = None
    ) -> Assignment:
        """Label the anchors of each image.

        Args:
            anchors: (R, 4), float32, pixels, xyxy, all levels.
            gt_instances: N ``Instances`` with ``gt_boxes`` and ``gt_classes``. As in Detectron2,
                anchors of an object of class -1 are ignored, and those of class K are background.
            lattice: how the anchors lie, for sparse matching; None for dense matching.
        """
        size = (len(gt_instances), len(anchors))
        gt_labels = torch.full(size, self.num_classes, device=anchors.device)
        images = [
            self._assign_image(anchors, objects, lattice, labels)
            for objects, labels in zip(gt_instances, gt_labels, strict=True)
        ]
        foreground, boxes, unmatched = zip(*images, strict=True)
        num_foreground = [len(idxs) for idxs in foreground]
        counts = torch.tensor(num_foreground, device=anchors.device)
        image_idxs = torch.arange(len(images), device=anchors.device)
        return Assignment(
            gt_labels=gt_labels,
            image_idxs=image_idxs.repeat_interleave(counts, output_size=sum(num_foreground)),
            anchor_idxs=torch.cat(foreground),
            gt_boxes=torch.cat(boxes),
            num_foreground=counts,
            num_unmatched=torch.stack(unmatched),
        )

    def _assign_image(
        self, anchors: Tensor, objects: Instances, lattice: AnchorLattice | None, gt_labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Write into ``gt_labels`` (R,), all background, what is not background.

        Returns the indices of the foreground anchors, their boxes, the number of unmatched objects.
        """
        boxes = objects.gt_boxes.tensor
        matches, match_labels = match_anchors(
            anchors, boxes, self.rule, lattice=lattice, backend=self.backend
        )
        not_background = match_labels.nonzero().squeeze(1)
        foreground = not_background[match_labels[not_background] == 1]
        matched = matches[foreground]
        gt_labels[not_background] = -1
        gt_labels[foreground] = objects.gt_classes[matched].clamp(min=-1)
        is_learned = (objects.gt_classes >= 0) & (objects.gt_classes != self.num_classes)
        foreground, matched = foreground[is_learned[matched]], matched[is_learned[matched]]
        is_unmatched = is_learned.index_fill(0, matched, False)
        return foreground, boxes[matched], is_unmatched.sum()
