"""Classification and box terms of the loss (paper Sec. 3.2 and 4)."""

from collections.abc import Callable

import torch
from detectron2.config import configurable
from detectron2.layers import ciou_loss, diou_loss
from detectron2.modeling.box_regression import Box2BoxTransform
from fvcore.nn import giou_loss, smooth_l1_loss
from torch import Tensor, nn

from focal_retina.config import focal_retina_node
from focal_retina.ops.backend import resolve_backend
from focal_retina.ops.candidates import gather_anchor_deltas
from focal_retina.ops.focal_loss import sigmoid_focal_loss
from focal_retina.ops.reference import flatten_logits

IOU_LOSSES = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}
BOX_REG_LOSSES = ("smooth_l1", *IOU_LOSSES)


class FocalRetinaLoss(nn.Module):
    """Focal loss over all anchors plus box loss over foreground anchors.

    Args:
        num_classes: K.
        box2box_transform: deltas to boxes and back.
        normalizer: from foreground counts (N,) to the divisor of both losses, 0-dim or (N,).
        focal_loss_alpha: weight of the foreground class, in [0, 1]; None for no weighting.
        focal_loss_gamma: focusing parameter, >= 0; 0 is cross entropy.
        box_reg_loss_type: "smooth_l1" on deltas (the paper), or "giou", "diou", "ciou" on boxes.
        smooth_l1_beta: where smooth L1 turns from square to linear, in deltas; 0 is L1.
        backend: see ``ops.backend.resolve_backend``.
    """

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        box2box_transform: Box2BoxTransform,
        normalizer: Callable[[Tensor], Tensor],
        focal_loss_alpha: float | None = 0.25,
        focal_loss_gamma: float = 2.0,
        box_reg_loss_type: str = "smooth_l1",
        smooth_l1_beta: float = 0.0,
        backend: str = "auto",
    ):
        super().__init__()
        if box_reg_loss_type not in BOX_REG_LOSSES:
            raise ValueError(
                f"box_reg_loss_type (MODEL.RETINANET.BBOX_REG_LOSS_TYPE) is {box_reg_loss_type!r}; "
                f"choose one of {', '.join(BOX_REG_LOSSES)}"
            )
        if focal_loss_gamma < 0:
            raise ValueError(f"focal_loss_gamma is {focal_loss_gamma}; it must be at least 0")
        self.num_classes = num_classes
        self.box2box_transform = box2box_transform
        self.normalizer = normalizer
        self.focal_loss_alpha = focal_loss_alpha
        self.focal_loss_gamma = focal_loss_gamma
        self.box_reg_loss_type = box_reg_loss_type
        self.smooth_l1_beta = smooth_l1_beta
        self.backend = backend

    @classmethod
    def from_config(cls, cfg, normalizer):
        retinanet, node = cfg.MODEL.RETINANET, focal_retina_node(cfg)
        alpha = retinanet.FOCAL_LOSS_ALPHA
        return {
            "num_classes": retinanet.NUM_CLASSES,
            "normalizer": normalizer,
            "box2box_transform": Box2BoxTransform(weights=retinanet.BBOX_REG_WEIGHTS),
            # A negative alpha turns weighting off in Detectron2.
            "focal_loss_alpha": alpha if alpha >= 0 else None,
            "focal_loss_gamma": retinanet.FOCAL_LOSS_GAMMA,
            "box_reg_loss_type": retinanet.BBOX_REG_LOSS_TYPE,
            "smooth_l1_beta": retinanet.SMOOTH_L1_LOSS_BETA,
            "backend": node.BACKEND,
        }

    def forward(self, logits: list[Tensor], deltas: list[Tensor], anchors: Tensor, assignment):
        """Return ``{"loss_cls", "loss_box_reg"}``, 0-dim float32, whatever the autocast state.

        Args:
            logits: L x (N, A*K, H, W).
            deltas: L x (N, A*4, H, W).
            anchors: (R, 4), float32, pixels, xyxy.
            assignment: labels and matched objects, see ``assignment.Assignment``.
        """
        with torch.autocast(anchors.device.type, enabled=False):
            normalizer = self.normalizer(assignment.num_foreground)
            loss_cls = sigmoid_focal_loss(
                logits,
                assignment.gt_labels,
                num_classes=self.num_classes,
                alpha=self.focal_loss_alpha,
                gamma=self.focal_loss_gamma,
                normalizer=normalizer,
                backend=self.backend,
            )
            loss_box_reg = self.box_loss(deltas, anchors, assignment, normalizer)
        return {"loss_cls": loss_cls, "loss_box_reg": loss_box_reg}

    def box_loss(self, deltas: list[Tensor], anchors: Tensor, assignment, normalizer: Tensor):
        """Return the normalised box loss of the foreground anchors, 0-dim float32."""
        image_idxs, anchor_idxs = assignment.image_idxs, assignment.anchor_idxs
        if resolve_backend(self.backend, anchors.device) == "reference":
            pred_deltas = flatten_logits(deltas, 4)[image_idxs, anchor_idxs].float()
        else:
            pred_deltas = gather_anchor_deltas(deltas, image_idxs, anchor_idxs)
        losses = self._box_losses(pred_deltas, anchors[anchor_idxs], assignment.gt_boxes)
        if normalizer.dim() == 0:
            return losses.sum() / normalizer.to(losses.dtype)
        return (losses.flatten(1).sum(1) / normalizer.to(losses.dtype)[image_idxs]).sum()

    def _box_losses(self, pred_deltas: Tensor, anchors: Tensor, gt_boxes: Tensor) -> Tensor:
        """Return the loss of each foreground anchor, (F, 4) or (F, 1)."""
        transform = self.box2box_transform
        if self.box_reg_loss_type == "smooth_l1":
            gt_deltas = transform.get_deltas(anchors, gt_boxes)
            return smooth_l1_loss(pred_deltas, gt_deltas, beta=self.smooth_l1_beta)
        pred_boxes = transform.apply_deltas(pred_deltas, anchors)
        return IOU_LOSSES[self.box_reg_loss_type](pred_boxes, gt_boxes)[:, None]
