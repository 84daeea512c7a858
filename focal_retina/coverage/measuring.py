"""How well anchors of given shapes cover objects."""

from dataclasses import dataclass

from torch import Tensor

from focal_retina.coverage.best_anchors import best_anchors
from focal_retina.coverage.foreground import without_foreground
from focal_retina.coverage.objects import Objects
from focal_retina.coverage.setting import AnchorGrids, AnchorSetting, AnchorShapes


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
    rules = (setting.rule, {**setting.rule, "low_quality_matches": "none"})
    unmatched = [without_foreground(objects, grids, best, rule) for rule in rules]
    return Coverage(shapes, best.ious, *unmatched)


def share_above(ious: Tensor, threshold: float) -> float:
    """Return the share of the objects whose IoU is at least ``threshold``."""
    return float((ious >= threshold).double().mean())


def is_no_worse(coverage: Coverage, other: Coverage, threshold: float) -> bool:
    """Return whether none of what is measured over all objects is worse than the other's."""
    return (
        share_above(coverage.ious, threshold) >= share_above(other.ious, threshold)
        and bool(coverage.ious.mean() >= other.ious.mean())
        and bool(coverage.unmatched.sum() <= other.unmatched.sum())
    )
