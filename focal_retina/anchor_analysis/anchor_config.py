"""What a config says about anchors, and their grids on images of many sizes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_anchor_generator, build_backbone
from torch import Tensor, nn

from focal_retina.errors import UserError
from focal_retina.modeling.assignment import AnchorAssigner
from focal_retina.ops.matching.lattice import AnchorLattice
from focal_retina.ops.matching.rule import MatchRule


class AnchorShapes(NamedTuple):
    """The values of the keys that shape anchors."""

    sizes: list[list[float]]  # MODEL.ANCHOR_GENERATOR.SIZES
    aspect_ratios: list[list[float]]  # MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS
    scales_per_octave: int  # MODEL.FOCAL_RETINA.SCALES_PER_OCTAVE


class AnchorConfig(NamedTuple):
    """How a detector places and labels anchors."""

    shapes: AnchorShapes
    has_octaves: bool  # whether its generator uses SCALES_PER_OCTAVE
    build_generator: Callable[[AnchorShapes], nn.Module]
    divisibility: int  # images are padded to a multiple of so many pixels
    rule: MatchRule

    @classmethod
    def of(cls, cfg: CfgNode) -> "AnchorConfig":
        """Read the YAML config of a RetinaNet; a UserError names what cannot be analyzed."""
        if "RetinaNet" not in cfg.MODEL.META_ARCHITECTURE:
            raise UserError(
                f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}; "
                "the anchors of FocalRetinaNet and RetinaNet can be analyzed"
            )
        rule = AnchorAssigner(**AnchorAssigner.from_config(cfg)).rule
        if 1 not in rule.labels:
            raise UserError(
                f"MODEL.RETINANET.IOU_LABELS is {list(rule.labels)}; without 1 nothing is learned"
            )
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.FOCAL_RETINA.TIMM.PRETRAINED = False  # only the shapes of features are needed
        backbone = build_backbone(cfg)
        features = [backbone.output_shape()[name] for name in cfg.MODEL.RETINANET.IN_FEATURES]
        keys, octave_keys = cfg.MODEL.ANCHOR_GENERATOR, cfg.MODEL.FOCAL_RETINA
        sizes, ratios = _nested(keys.SIZES), _nested(keys.ASPECT_RATIOS)
        shapes = AnchorShapes(sizes, ratios, octave_keys.SCALES_PER_OCTAVE)

        def build_generator(shapes: AnchorShapes) -> nn.Module:
            keys.SIZES, keys.ASPECT_RATIOS, octave_keys.SCALES_PER_OCTAVE = shapes
            return build_anchor_generator(cfg, features)

        if AnchorLattice.of(build_generator(shapes), [(1, 1)] * len(features)) is None:
            raise UserError(
                f"MODEL.ANCHOR_GENERATOR.NAME is {keys.NAME}; only generators that are a regular "
                "lattice, such as OctaveAnchorGenerator, can be analyzed"
            )
        divisibility = octave_keys.SIZE_DIVISIBILITY or backbone.size_divisibility
        has_octaves = keys.NAME == "OctaveAnchorGenerator"
        return cls(shapes, has_octaves, build_generator, max(divisibility, 1), rule)

    @property
    def foreground_threshold(self) -> float:
        """The lowest IoU whose label is foreground."""
        return [0.0, *self.rule.thresholds][list(self.rule.labels).index(1)]


class AnchorGrids(NamedTuple):
    """The anchors of a generator on each of N images, each padded as if alone in its batch.

    In a larger batch, more padding may add anchors beyond the image.
    """

    generator: nn.Module
    grid_sizes: Tensor  # (2, N, L) int64: cells in x and y of each level

    @classmethod
    def of(cls, config: AnchorConfig, shapes: AnchorShapes, image_sizes: Tensor) -> "AnchorGrids":
        """Return the grids of anchors of some shapes on images of heights and widths (N, 2)."""
        generator = config.build_generator(shapes)
        padded = -(-image_sizes // config.divisibility) * config.divisibility
        # Every strided convolution rounds up, and so do all of them together.
        sizes = -(-padded.flip(1).t().unsqueeze(2) // torch.tensor(generator.strides))
        return cls(generator, sizes)

    def of_objects(self, image_idxs: Tensor) -> AnchorLattice:
        """Return a lattice whose grid sizes are those of each object's image, (2, G, S)."""
        lattice = AnchorLattice.of(self.generator, self.of_image(0))
        num_anchors = torch.tensor(self.generator.num_anchors)
        levels = torch.arange(len(num_anchors)).repeat_interleave(num_anchors)
        return replace(lattice, grid_sizes=self.grid_sizes[:, image_idxs][:, :, levels])

    def of_image(self, image_idx: int) -> list[tuple[int, int]]:
        """Return height and width of each level's grid."""
        return [tuple(size) for size in self.grid_sizes[:, image_idx].flip(0).t().tolist()]


def _nested(values: Sequence) -> list[list[float]]:
    """Return one list for all levels, or one list per level, as lists in a list."""
    if any(isinstance(v, Sequence) for v in values):
        return [list(v) if isinstance(v, Sequence) else [v] for v in values]
    return [list(values)]
