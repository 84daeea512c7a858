"""Which object each anchor is matched with, and whether it is foreground."""

from collections.abc import Sequence

import torch
from torch import Tensor

from focal_retina.ops.backend import resolve_backend
from focal_retina.ops.matching.dense import match_dense
from focal_retina.ops.matching.lattice import AnchorLattice
from focal_retina.ops.matching.sparse import match_sparse

LOW_QUALITY_MATCHES = ("none", "detectron1", "detectron2")


@torch.no_grad()
def match_anchors(
    anchors: Tensor,
    gt_boxes: Tensor,
    *,
    thresholds: Sequence[float],
    labels: Sequence[int],
    low_quality_matches: str,
    lattice: AnchorLattice | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """
    Match each anchor with the object of highest IoU, and label it by that IoU.

    Args:
        anchors: (R, 4), float32, pixels, xyxy.
        gt_boxes: (G, 4), float32, pixels, xyxy; a box that is not finite or has no area has IoU 0
            with every anchor.
        thresholds: T ascending IoUs above 0.
        labels: T + 1 labels, 1 foreground, 0 background, -1 ignore: ``labels[i]`` is for IoUs in
            [``thresholds[i - 1]``, ``thresholds[i]``).
        low_quality_matches: which anchors become foreground, whatever their label, because no
            anchor has a higher IoU with some object (every one of a tie): "none"; "detectron1",
            those whose highest IoU is at least ``thresholds[0]``; "detectron2", all. Each stays
            matched with its own best object.
        lattice: how the anchors lie, ``AnchorLattice.of`` their generator. Without it the
            "torch" backend compares all pairs, in chunks.
        backend: see ``resolve_backend``. "reference" compares all pairs; "torch" and "triton"
            (one path) compare only the pairs whose IoU can matter.

    Returns:
        ``matches`` (R,), int64, in [0, G): each anchor's best object, the first one of a tie.
        Undefined where the highest IoU is below ``thresholds[0]`` and the label is not 1; zeros
        when G is 0. And ``match_labels`` (R,), int8.

    Raises:
        ValueError: boxes of another dtype or shape, or unusable thresholds, labels, mode, lattice
            or backend.

    Source: paper Sec. 4, "Anchors"; Detectron2's ``Matcher``, to which the result is equal but
    for one deviation: an object whose IoU is 0 with every anchor makes every anchor foreground
    there, and none here.
    """
    _check_boxes(anchors, gt_boxes, lattice)
    _check_rule(thresholds, labels, low_quality_matches)
    if not len(anchors) or not len(gt_boxes):
        match_labels = torch.full_like(anchors[:, 0], labels[0], dtype=torch.int8)
        return torch.zeros_like(match_labels, dtype=torch.int64), match_labels
    rule = {
        "thresholds": thresholds,
        "labels": labels,
        "low_quality_matches": low_quality_matches,
    }
    # Foreground below the lowest threshold would need the best object of every anchor.
    is_dense = lattice is None or labels[0] == 1
    if resolve_backend(backend, anchors.device) == "reference" or is_dense:
        return match_dense(anchors, gt_boxes, **rule)
    return match_sparse(anchors, gt_boxes, lattice, **rule)


def _check_boxes(anchors: Tensor, gt_boxes: Tensor, lattice: AnchorLattice | None) -> None:
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


def _check_rule(
    thresholds: Sequence[float], labels: Sequence[int], low_quality_matches: str
) -> None:
    ascending = list(thresholds) == sorted(thresholds)
    if not len(thresholds) or not ascending or not thresholds[0] > 0:
        raise ValueError(f"thresholds is {thresholds}; give ascending IoUs above 0")
    if len(labels) != len(thresholds) + 1 or not set(labels) <= {-1, 0, 1}:
        raise ValueError(
            f"labels is {labels}; give {len(thresholds) + 1} of -1, 0 and 1, "
            f"one more than thresholds"
        )
    if low_quality_matches not in LOW_QUALITY_MATCHES:
        raise ValueError(
            f"low_quality_matches is {low_quality_matches!r}; "
            f"choose one of {list(LOW_QUALITY_MATCHES)}"
        )
