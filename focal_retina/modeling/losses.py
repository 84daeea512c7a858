"""Classification and box terms of the loss (paper Sec. 3.2 and 4)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ciou_loss, diou_loss
from detectron2.modeling.box_regression import Box2BoxTransform
from fvcore.nn import giou_loss, smooth_l1_loss
from torch import Tensor, nn

from focal_retina.config import focal_retina_node
from focal_retina.errors import UserError, require_choice
from focal_retina.ops.backend import resolve_backend
from focal_retina.ops.gather import gather_anchor_deltas
from focal_retina.ops.reference import flatten_logits

if TYPE_CHECKING:
    from focal_retina.modeling.assignment import Assignment
    from focal_retina.modeling.classification import ClassificationLoss
    from focal_retina.modeling.normalizer import LossNormalizer
    from focal_retina.modeling.selection import HardExampleSelection

IOU_LOSSES = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}


class FocalRetinaLoss(nn.Module):
    """Classification loss over all or selected anchors plus box loss over foreground anchors.

    Args:
        cls_loss: one of the losses in ``modeling.classification``.
        box2box_transform: deltas to boxes and back.
        normalizer: from foreground counts (N,) to the divisor of both losses, 0-dim or (N,).
        example_selection: which anchors ``cls_loss`` sees, see ``modeling.selection``; None: all.
        box_reg_loss_type: "smooth_l1" on deltas (the paper), or "giou", "diou", "ciou" on boxes.
        smooth_l1_beta: where smooth L1 turns from square to linear, in deltas; 0 is L1.
        backend: see ``ops.backend.resolve_backend``.
    """

    @configurable
    def __init__(
        self,
        *,
        cls_loss: "ClassificationLoss",
        box2box_transform: Box2BoxTransform,
        normalizer: "LossNormalizer",
        example_selection: "HardExampleSelection | None" = None,
        box_reg_loss_type: str = "smooth_l1",
        smooth_l1_beta: float = 0.0,
        backend: str = "auto",
    ):
        super().__init__()
        name = "box_reg_loss_type (MODEL.RETINANET.BBOX_REG_LOSS_TYPE)"
        require_choice(name, box_reg_loss_type, ("smooth_l1", *IOU_LOSSES))
        self.cls_loss, self.normalizer = cls_loss, normalizer
        self.box2box_transform, self.example_selection = box2box_transform, example_selection
        self.box_reg_loss_type, self.smooth_l1_beta = box_reg_loss_type, smooth_l1_beta
        self.backend = backend

    @classmethod
    def from_config(cls, cfg: CfgNode, **parts: Any) -> dict[str, Any]:
        """Take ``cls_loss``, ``normalizer`` and ``example_selection`` as they are given."""
        retinanet, node = cfg.MODEL.RETINANET, focal_retina_node(cfg)
        return {
            "box2box_transform": Box2BoxTransform(weights=retinanet.BBOX_REG_WEIGHTS),
            "box_reg_loss_type": retinanet.BBOX_REG_LOSS_TYPE,
            "smooth_l1_beta": retinanet.SMOOTH_L1_LOSS_BETA,
            "backend": node.BACKEND,
            **parts,
        }

    def forward(
        self,
        logits: list[Tensor],
        deltas: list[Tensor],
        anchors: Tensor,
        assignment: "Assignment",
        divisor: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return "loss_cls" and "loss_box_reg", 0-dim float32, whatever the autocast state.

        Args:
            logits, deltas: see ``HeadOutputs``.
            anchors: (R, 4), float32, pixels, xyxy.
            divisor: of both losses, 0-dim or (N,); None for the normaliser's.
        """
        with torch.autocast(anchors.device.type, enabled=False):
            if divisor is None:
                divisor = self.normalizer(assignment.num_foreground)
            gt_labels, cls_divisor = assignment.gt_labels, divisor
            if self.example_selection is not None:
                gt_labels = self._selected(logits, deltas, anchors, assignment)
                if self._divides_by_examples:
                    cls_divisor = (gt_labels >= 0).sum().clamp(min=1)
            loss_cls = self.cls_loss(logits, gt_labels, cls_divisor)
            loss_box_reg = self.box_loss(deltas, anchors, assignment, divisor)
        return {"loss_cls": loss_cls, "loss_box_reg": loss_box_reg}

    def sums(
        self, logits: list[Tensor], deltas: list[Tensor], anchors: Tensor, assignment: "Assignment"
    ) -> dict[str, Tensor]:
        """Return each loss as its sum and what divides it, (2,) float64; arguments as ``forward``.

        Both add up over batches, and then give the loss of all images as one batch. A loss divided
        by the selected examples is the exception: that becomes the mean over images.
        """
        divisor, total = self.normalizer.divisors_of_sums(assignment.num_foreground)
        losses = self(logits, deltas, anchors, assignment, divisor)
        sums = {name: torch.stack([loss.double(), total]) for name, loss in losses.items()}
        if self._divides_by_examples:
            of_one = torch.stack([losses["loss_cls"].double(), total.new_ones(())])
            sums["loss_cls"] = len(assignment.gt_labels) * of_one
        return sums

    @torch.no_grad()
    def level_faults(
        self,
        names: Sequence[str],
        logits: list[Tensor],
        deltas: list[Tensor],
        anchors: Tensor,
        assignment: "Assignment",
    ) -> list[str]:
        """Return what is not finite, for instance "loss_cls at p3 (its logits are not finite)".

        Args:
            names: of the L levels, fine to coarse; the others are those of ``forward``.
        """
        faults, end = [], 0
        divisor = assignment.num_foreground.sum().clamp(min=1)
        for name, x, d in zip(names, logits, deltas, strict=True):
            start, end = end, end + d[0].numel() // 4
            level = _of_anchors(assignment, start, end)
            losses = self.forward([x], [d], anchors[start:end], level, divisor)  # without hooks
            terms = " and ".join(term for term, value in losses.items() if not value.isfinite())
            outputs = {"logits": x, "deltas": d}
            wrong = " and ".join(kind for kind, y in outputs.items() if not y.isfinite().all())
            if terms:
                cause = f"{wrong} are not" if wrong else "logits and deltas are"
                faults.append(f"{terms} at {name} (its {cause} finite)")
        return faults

    def check_micro_batches(self) -> None:
        """Raise a UserError if the loss of a batch is no sum over its images."""
        selection = self.example_selection
        if selection and (self._divides_by_examples or selection.scope == "batch"):
            raise UserError(
                "OHEM selects and counts the examples of a whole batch, but gradient accumulation "
                "sees micro-batches: set SOLVER.ACCUMULATION_STEPS (train.accumulation_steps) 1, "
                'or give HardExampleSelection normalizer="foreground" and scope="image"'
            )

    @property
    def _divides_by_examples(self) -> bool:
        selection = self.example_selection
        return selection is not None and selection.normalizer == "examples"

    @torch.no_grad()
    def _selected(
        self, logits: list[Tensor], deltas: list[Tensor], anchors: Tensor, assignment: "Assignment"
    ) -> Tensor:
        """Return the labels (N, R), -1 for all anchors but the selected."""
        assert self.example_selection is not None
        gt_labels = assignment.gt_labels
        is_foreground = torch.zeros_like(gt_labels, dtype=torch.bool)
        is_foreground[assignment.image_idxs, assignment.anchor_idxs] = True
        boxes = anchors.expand(len(gt_labels), -1, -1)
        if self.example_selection.nms_over == "boxes":
            pred_deltas = flatten_logits(deltas, 4).float()
            boxes = torch.stack(
                [self.box2box_transform.apply_deltas(d, anchors) for d in pred_deltas]
            )
        losses = self.cls_loss.anchor_losses(logits, gt_labels)
        return self.example_selection(losses, boxes, gt_labels, is_foreground)

    def box_loss(
        self, deltas: list[Tensor], anchors: Tensor, assignment: "Assignment", divisor: Tensor
    ) -> Tensor:
        """Return the box loss of the foreground anchors over a divisor, 0-dim float32."""
        image_idxs, anchor_idxs = assignment.image_idxs, assignment.anchor_idxs
        if resolve_backend(self.backend, anchors.device) == "reference":
            pred_deltas = flatten_logits(deltas, 4)[image_idxs, anchor_idxs].float()
        else:
            pred_deltas = gather_anchor_deltas(deltas, image_idxs, anchor_idxs)
        losses = self._box_losses(pred_deltas, anchors[anchor_idxs], assignment.gt_boxes)
        if divisor.dim() == 0:
            return losses.sum() / divisor.to(losses.dtype)
        return (losses.flatten(1).sum(1) / divisor.to(losses.dtype)[image_idxs]).sum()

    def _box_losses(self, pred_deltas: Tensor, anchors: Tensor, gt_boxes: Tensor) -> Tensor:
        """Return the loss of each foreground anchor, (F, 4) or (F, 1)."""
        transform = self.box2box_transform
        if self.box_reg_loss_type == "smooth_l1":
            gt_deltas = transform.get_deltas(anchors, gt_boxes)
            return smooth_l1_loss(pred_deltas, gt_deltas, beta=self.smooth_l1_beta)
        pred_boxes = transform.apply_deltas(pred_deltas, anchors)
        try:
            return IOU_LOSSES[self.box_reg_loss_type](pred_boxes, gt_boxes)[:, None]
        except AssertionError:
            # These functions refuse a box of NaN. The loss tells of it instead, and ends the run.
            return pred_boxes * torch.nan


def _of_anchors(assignment: "Assignment", start: int, end: int) -> "Assignment":
    """Return the assignment of the anchors of index [start, end) alone."""
    kept = (assignment.anchor_idxs >= start) & (assignment.anchor_idxs < end)
    return assignment._replace(
        gt_labels=assignment.gt_labels[:, start:end],
        image_idxs=assignment.image_idxs[kept],
        anchor_idxs=assignment.anchor_idxs[kept] - start,
        gt_boxes=assignment.gt_boxes[kept],
    )
