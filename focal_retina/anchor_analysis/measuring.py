"""How well anchors of given shapes cover objects."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from focal_retina.anchor_analysis.best_anchors import best_anchors
from focal_retina.anchor_analysis.foreground import without_foreground
from focal_retina.anchor_analysis.objects import Objects
from focal_retina.anchor_analysis.setting import AnchorGrids, AnchorSetting, AnchorShapes

_MARGIN = 0.1


@dataclass(frozen=True)
class Coverage:
    """What G objects have of the anchors of their images."""

    shapes: AnchorShapes
    ious: Tensor  # (G,) float64: the highest IoU with any anchor
    unmatched: Tensor  # (G,) bool: no foreground anchor is matched with it, as configured
    unmatched_without_low_quality: Tensor  # (G,) bool: the same with LOW_QUALITY_MATCHES "none"


def measure_coverage(
    objects: Objects, setting: AnchorSetting, shapes: AnchorShapes | None = None
) -> Coverage:
    """Measure the anchors of a config, or of other shapes in the place of its own."""
    shapes = shapes or setting.shapes
    generator = setting.build(shapes)
    grids = AnchorGrids.of_images(generator, objects.image_sizes, setting.divisibility)
    best = best_anchors(objects, grids)
    rules = (setting.rule, replace(setting.rule, low_quality_matches="none"))
    unmatched = [without_foreground(objects, grids, best, rule) for rule in rules]
    return Coverage(shapes, best.ious, *unmatched)


def scores(ious: Tensor, threshold: float) -> Tensor:
    """Return three shares of 1 that better anchors raise, (3,), float64.

    How many objects reach the threshold, how many do so by a margin that lets others like them
    reach it, too, and the mean IoU.
    """
    shares = [(ious >= x).double().mean() for x in (threshold, threshold + _MARGIN)]
    return torch.stack([*shares, ious.double().mean()])


def is_no_worse(coverage: Coverage, other: Coverage, threshold: float) -> bool:
    """Return whether no score, nor the number of unmatched objects, is worse than the other's."""
    gains = scores(coverage.ious, threshold) - scores(other.ious, threshold)
    return bool((gains >= 0).all() and coverage.unmatched.sum() <= other.unmatched.sum())
