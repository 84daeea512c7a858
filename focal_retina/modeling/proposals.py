"""FocalProposalGenerator: the same parts as the first stage of a two-stage detector."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import build_anchor_generator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY, build_rpn_head
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from focal_retina.config import focal_retina_node
from focal_retina.detectron2_internals import Unscriptable
from focal_retina.errors import UserError
from focal_retina.modeling.assignment import NO_INSTANCES, AnchorAssigner, Assignment
from focal_retina.modeling.classification import SigmoidFocalLoss, focal_loss_alpha
from focal_retina.modeling.losses import FocalRetinaLoss
from focal_retina.modeling.normalizer import LossNormalizer
from focal_retina.modeling.proposal_postprocess import ProposalPostprocessor
from focal_retina.ops.matching.lattice import AnchorLattice
from focal_retina.registry import register

# Detectron2's names of the losses of an RPN, and ours.
_LOSSES = {"loss_rpn_cls": "loss_cls", "loss_rpn_loc": "loss_box_reg"}


@register(PROPOSAL_GENERATOR_REGISTRY)
class FocalProposalGenerator(Unscriptable, nn.Module):
    """Proposals from the focal-loss head, with object against background as the only class.

    It takes the place of Detectron2's ``RPN`` in any two-stage config: set
    ``MODEL.PROPOSAL_GENERATOR.NAME`` to "FocalProposalGenerator" and ``MODEL.RPN.HEAD_NAME`` to
    "FocalRetinaHead". The keys ``MODEL.RPN.*`` keep their meaning, but ``BATCH_SIZE_PER_IMAGE`` and
    ``POSITIVE_FRACTION`` have none, as the focal loss takes all anchors, and ``CONV_DIMS`` belongs
    to Detectron2's own head. Head and focal loss have their keys in ``MODEL.RETINANET``
    (``NUM_CONVS``, ``NORM``, ``PRIOR_PROB``, ``FOCAL_LOSS_*``) and ``MODEL.FOCAL_RETINA``.

    Args:
        in_features: names of the features to use, fine to coarse.
        head, anchor_generator, assigner, loss: as of ``FocalRetinaNet``, with K = 1.
        postprocessor: from anchors, logits, deltas and image sizes to proposals.
        anchor_boundary_thresh: ignore anchors that reach further out of their image than so many
            pixels; below 0: ignore none.
        loss_weight: factors of "loss_rpn_cls" and "loss_rpn_loc"; None for 1.
    """

    @configurable
    def __init__(
        self,
        *,
        in_features: Sequence[str],
        head: nn.Module,
        anchor_generator: nn.Module,
        assigner: Callable[..., Assignment],
        loss: FocalRetinaLoss,
        postprocessor: Callable[..., list[Instances]],
        anchor_boundary_thresh: float = -1.0,
        loss_weight: Mapping[str, float] | None = None,
    ):
        super().__init__()
        self.in_features = self.head_in_features = in_features
        self.rpn_head = head  # Detectron2's name, which its checkpoints have
        self.anchor_generator, self.assigner = anchor_generator, assigner
        self.loss, self.postprocessor = loss, postprocessor
        self.anchor_boundary_thresh = anchor_boundary_thresh
        self.loss_weight = loss_weight or dict.fromkeys(_LOSSES, 1.0)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        rpn = cfg.MODEL.RPN
        shapes = [input_shape[f] for f in rpn.IN_FEATURES]
        return {
            "in_features": rpn.IN_FEATURES,
            "head": build_rpn_head(cfg, shapes),
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "assigner": AnchorAssigner(
                cfg, num_classes=1, thresholds=rpn.IOU_THRESHOLDS, labels=rpn.IOU_LABELS
            ),
            "loss": FocalRetinaLoss(
                cfg,
                cls_loss=SigmoidFocalLoss(
                    num_classes=1,
                    alpha=focal_loss_alpha(cfg),
                    gamma=cfg.MODEL.RETINANET.FOCAL_LOSS_GAMMA,
                    backend=focal_retina_node(cfg).BACKEND,
                ),
                normalizer=LossNormalizer(cfg),
                box2box_transform=Box2BoxTransform(weights=rpn.BBOX_REG_WEIGHTS),
                box_reg_loss_type=rpn.BBOX_REG_LOSS_TYPE,
                smooth_l1_beta=rpn.SMOOTH_L1_BETA,
            ),
            "postprocessor": ProposalPostprocessor(cfg),
            "anchor_boundary_thresh": rpn.BOUNDARY_THRESH,
            "loss_weight": {
                "loss_rpn_cls": rpn.LOSS_WEIGHT,
                "loss_rpn_loc": rpn.BBOX_REG_LOSS_WEIGHT * rpn.LOSS_WEIGHT,
            },
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Return the proposals of each image, and in training the losses by name.

        Proposals have ``proposal_boxes`` (pixels, xyxy) and ``objectness_logits``, descending.

        Args:
            images: for their sizes before padding.
            features: by name, each (N, C, H, W).
            gt_instances: N ``Instances`` with ``gt_boxes``; in training only. Objects whose
                ``gt_classes`` are -1 are regions to ignore.
        """
        levels = [features[f] for f in self.head_in_features]
        logits, deltas = self.rpn_head(levels)
        anchors = self.anchor_generator(levels)
        losses = {}
        if self.training:
            if gt_instances is None:
                raise UserError(NO_INSTANCES)
            grid_sizes = [(x.shape[2], x.shape[3]) for x in logits]
            assignment = self.assign(anchors, grid_sizes, gt_instances)
            found = self.loss(logits, deltas, Boxes.cat(anchors).tensor, assignment)
            losses = {x: found[ours] * self.loss_weight[x] for x, ours in _LOSSES.items()}
        sizes = images.image_sizes
        return self.postprocessor(anchors, logits, deltas, sizes, self.training), losses

    def assign(
        self, anchors: list[Boxes], grid_sizes: Sequence[tuple], gt_instances: list[Instances]
    ) -> Assignment:
        """Label the anchors of each image: 0 object, 1 background, -1 ignore."""
        all_anchors = Boxes.cat(anchors)
        lattice = AnchorLattice.of(self.anchor_generator, grid_sizes)
        objects = [_of_one_class(x) for x in gt_instances]
        assignment = self.assigner(all_anchors.tensor, objects, lattice)
        if self.anchor_boundary_thresh < 0:
            return assignment
        sizes = [x.image_size for x in gt_instances]
        inside = [all_anchors.inside_box(s, self.anchor_boundary_thresh) for s in sizes]
        return _ignore_outside(assignment, torch.stack(inside))


def _of_one_class(objects: Instances) -> Instances:
    classes = torch.zeros(len(objects), dtype=torch.int64, device=objects.gt_boxes.device)
    if objects.has("gt_classes"):
        classes = objects.gt_classes.clamp(max=0)
    return Instances(objects.image_size, gt_boxes=objects.gt_boxes, gt_classes=classes)


def _ignore_outside(assignment: Assignment, is_inside: Tensor) -> Assignment:
    """Return the assignment without the anchors that are not inside, (N, R)."""
    kept = is_inside[assignment.image_idxs, assignment.anchor_idxs]
    return assignment._replace(
        gt_labels=assignment.gt_labels.masked_fill(~is_inside, -1),
        image_idxs=assignment.image_idxs[kept],
        anchor_idxs=assignment.anchor_idxs[kept],
        gt_boxes=assignment.gt_boxes[kept],
        num_foreground=assignment.image_idxs[kept].bincount(minlength=len(is_inside)),
    )
