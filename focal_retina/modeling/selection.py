"""Example selection: which anchors the classification loss sees (paper Sec. 5.1, Table 1d)."""

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from focal_retina.config import focal_retina_node
from focal_retina.errors import require, require_choice
from focal_retina.ops.hard_examples import hard_examples


def build_example_selection(cfg: CfgNode) -> "HardExampleSelection | None":
    """Build what ``MODEL.FOCAL_RETINA.EXAMPLE_SELECTION`` names; None for "all" anchors."""
    kind = focal_retina_node(cfg).EXAMPLE_SELECTION
    require_choice("MODEL.FOCAL_RETINA.EXAMPLE_SELECTION", kind, ("all", "ohem", "ohem_1_3"))
    return None if kind == "all" else HardExampleSelection(cfg)


class HardExampleSelection:
    """OHEM: ignore all anchors but those of highest loss after NMS.

    The box loss still sees every foreground anchor. The paper leaves the last three arguments open.

    Args:
        batch_size: anchors kept per image, >= 1.
        nms_thresh: NMS drops an anchor whose IoU with one of higher loss is above it, in [0, 1].
        one_to_three: keep three background anchors to one foreground anchor.
        nms_over: "anchors", as OHEM had it between proposals, or "boxes", decoded.
        scope: "image": keep ``batch_size`` of each image; "batch": keep ``batch_size`` times N of
            the N images together.
        normalizer: divide the classification loss by the kept "examples", as the mean of a
            mini-batch is, or by "foreground", as without selection.
    """

    @configurable
    def __init__(
        self,
        *,
        batch_size: int = 128,
        nms_thresh: float = 0.5,
        one_to_three: bool = False,
        nms_over: str = "anchors",
        scope: str = "image",
        normalizer: str = "examples",
    ):
        name = "batch_size (MODEL.FOCAL_RETINA.OHEM_BATCH_SIZE)"
        require(batch_size >= 1, name, batch_size, "be at least 1")
        name = "nms_thresh (MODEL.FOCAL_RETINA.OHEM_NMS_THRESH)"
        require(0 <= nms_thresh <= 1, name, nms_thresh, "lie in [0, 1]")
        require_choice("nms_over of OHEM", nms_over, ("anchors", "boxes"))
        require_choice("scope of OHEM", scope, ("image", "batch"))
        require_choice("normalizer of OHEM", normalizer, ("examples", "foreground"))
        self.batch_size, self.nms_thresh = batch_size, nms_thresh
        self.one_to_three, self.nms_over = one_to_three, nms_over
        self.scope, self.normalizer = scope, normalizer

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = focal_retina_node(cfg)
        return {
            "batch_size": node.OHEM_BATCH_SIZE,
            "nms_thresh": node.OHEM_NMS_THRESH,
            "one_to_three": node.EXAMPLE_SELECTION == "ohem_1_3",
        }

    @torch.no_grad()
    def __call__(
        self, losses: Tensor, boxes: Tensor, gt_labels: Tensor, is_foreground: Tensor
    ) -> Tensor:
        """Return ``gt_labels`` with -1, ignored, for all anchors that are not kept.

        Args:
            losses: (N, R) float.
            boxes: (N, R, 4) float, pixels, xyxy, what NMS compares.
            gt_labels: (N, R) int64; -1 are never kept.
            is_foreground: (N, R) bool.
        """
        selected, batch_size = torch.full_like(gt_labels, -1), self.batch_size
        if self.scope == "batch":
            boxes, batch_size = _set_apart(boxes), batch_size * len(boxes)
        images = [losses, boxes, gt_labels, is_foreground, selected]
        if self.scope == "batch":  # all of them as one image
            images = [x.flatten(0, 1)[None] for x in images]
        for losses, boxes, gt_labels, is_foreground, selected_labels in zip(*images, strict=True):
            idxs = (gt_labels >= 0).nonzero().squeeze(1)
            hard = hard_examples(
                losses[idxs],
                boxes[idxs],
                is_foreground[idxs],
                batch_size=batch_size,
                nms_thresh=self.nms_thresh,
                one_to_three=self.one_to_three,
            )
            selected_labels[idxs[hard]] = gt_labels[idxs[hard]]
        return selected


def _set_apart(boxes: Tensor) -> Tensor:
    """Shift the boxes (N, R, 4) of each image so that they overlap no other image's."""
    boxes = boxes.double()  # in float32 the shift would round fractions away
    step = boxes.max() - boxes.min() + 1
    return boxes + step * torch.arange(len(boxes), device=boxes.device).view(-1, 1, 1)
