"""Which object each anchor is matched with, and whether it is foreground."""

import torch
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor

from focal_retina.ops.backend import resolve_backend
from focal_retina.ops.matching.lattice import AnchorLattice
from focal_retina.ops.matching.rule import MatchRule
from focal_retina.ops.matching.sparse import match_sparse


@torch.no_grad()
def match_anchors(
    anchors: Tensor,
    gt_boxes: Tensor,
    rule: MatchRule,
    *,
    lattice: AnchorLattice | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Match each anchor with the object of highest IoU, and label it by that IoU.

    Args:
        anchors: (R, 4), float32, pixels, xyxy.
        gt_boxes: (G, 4), float32, pixels, xyxy. A box that is not finite or has no area has IoU 0
            with every anchor.
        rule: the label of each IoU.
        lattice: how the anchors lie, ``AnchorLattice.of`` their generator. Without it all backends
            compare all pairs, in chunks.
        backend: see ``resolve_backend``. "reference" compares all pairs. "torch" and "triton" are
            the same here, and compare only the pairs whose IoU can matter.

    Returns:
        ``matches`` (R,), int64, in [0, G): the best object of each anchor, the first one of a tie.
        Undefined where the highest IoU is below the lowest threshold and the label is not 1; zeros
        when G is 0. And ``match_labels`` (R,), int8.

    Raises ValueError for boxes of another dtype or shape, or a lattice of other anchors, and
    UserError for an unavailable backend.

    Source: paper Sec. 4, "Anchors"; Detectron2's ``Matcher``. The result is equal to that of
    ``Matcher`` but for one deviation: an object whose IoU is 0 with every anchor makes every anchor
    foreground there, and none here.
    """
    for name, boxes in (("anchors", anchors), ("gt_boxes", gt_boxes)):
        if boxes.dtype != torch.float32 or boxes.dim() != 2 or boxes.shape[1] != 4:
            raise ValueError(
                f"{name} is {boxes.dtype} of shape {tuple(boxes.shape)}; "
                "give float32 boxes of shape (n, 4): IoUs in less precision move labels"
            )
    if lattice is not None and lattice.num_anchors != len(anchors):
        raise ValueError(
            f"the lattice has {lattice.num_anchors} anchors but anchors has {len(anchors)}; "
            "build it from the grid sizes that made the anchors"
        )
    if not len(anchors) or not len(gt_boxes):
        match_labels = torch.full_like(anchors[:, 0], rule.labels[0], dtype=torch.int8)
        return torch.zeros_like(match_labels, dtype=torch.int64), match_labels
    is_reference = resolve_backend(backend, anchors.device) == "reference"
    # Foreground below the lowest threshold would need the best object of every anchor.
    if is_reference or lattice is None or rule.labels[0] == 1:
        return match_dense(anchors, gt_boxes, rule)
    return match_sparse(anchors, gt_boxes, rule, lattice)


def match_dense(
    anchors: Tensor, gt_boxes: Tensor, rule: MatchRule, *, pairs_per_chunk: int = 1 << 20
) -> tuple[Tensor, Tensor]:
    """Do the same for any anchors, in about 60 bytes x ``pairs_per_chunk``: the reference.

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
