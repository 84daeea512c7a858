"""How well anchors of given shapes fit objects."""

from dataclasses import dataclass

import torch
from torch import Tensor

from focal_retina.anchor_analysis.anchor_config import AnchorConfig, AnchorGrids, AnchorShapes
from focal_retina.anchor_analysis.best_iou import best_ious
from focal_retina.anchor_analysis.foreground import without_foreground
from focal_retina.anchor_analysis.objects import Objects

_MARGIN = 0.1


@dataclass(frozen=True)
class AnchorFit:
    """What G objects get of the anchors of their images."""

    shapes: AnchorShapes
    ious: Tensor  # (G,) float64: the highest IoU with any anchor
    is_labelled: Tensor  # (G,) bool: the image of the object was labelled
    unmatched: Tensor  # (G,) bool: the image was labelled, and the object has no foreground anchor
    unmatched_without_low_quality: Tensor  # (G,) bool: the same with LOW_QUALITY_MATCHES "none"


def measure_fit(
    objects: Objects, config: AnchorConfig, image_idxs: Tensor, shapes: AnchorShapes | None = None
) -> AnchorFit:
    """Measure the anchors of a config, or of other shapes.

    Args:
        image_idxs: the images to label, int64.
    """
    shapes = shapes or config.shapes
    grids = AnchorGrids.of(config, shapes, objects.image_sizes)
    rules = config.rule, {**config.rule, "low_quality_matches": "none"}
    unmatched = [without_foreground(objects, grids, image_idxs, rule) for rule in rules]
    is_labelled = torch.isin(objects.image_idxs, image_idxs)
    return AnchorFit(shapes, best_ious(objects, grids), is_labelled, *unmatched)


def scores(ious: Tensor, threshold: float) -> Tensor:
    """Return three scores from 0 to 1 that better anchors raise, (3,), float64.

    The share of objects that reach the threshold, the share that exceeds it by a margin, so that
    similar objects reach it, too, and the mean IoU.
    """
    shares = [(ious >= x).double().mean() for x in (threshold, threshold + _MARGIN)]
    return torch.stack([*shares, ious.double().mean()])


def is_no_worse(fit: AnchorFit, other: AnchorFit, threshold: float) -> bool:
    """Return whether no score, nor the number of unmatched objects, is worse than the other's."""
    gains = scores(fit.ious, threshold) - scores(other.ious, threshold)
    return bool((gains >= 0).all() and fit.unmatched.sum() <= other.unmatched.sum())
