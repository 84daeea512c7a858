"""Anchors: base sizes times scales per octave times aspect ratios (paper Sec. 4)."""

import math
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import (
    ANCHOR_GENERATOR_REGISTRY,
    BufferList,
    DefaultAnchorGenerator,
)
from detectron2.structures import Boxes
from torch import Tensor

from focal_retina.config import focal_retina_node
from focal_retina.detectron2_internals import Unscriptable
from focal_retina.errors import UserError, require
from focal_retina.registry import register


@register(ANCHOR_GENERATOR_REGISTRY)
class OctaveAnchorGenerator(Unscriptable, DefaultAnchorGenerator):
    """Anchors of ``scales_per_octave`` sizes ``size * 2^(k/n)``, ``k < n``, and several ratios.

    Returns for a list of features one ``Boxes`` per level, in the order (y, x, size, ratio), as
    Detectron2's ``DefaultAnchorGenerator`` does. Levels may have different numbers of anchors;
    ``FocalRetinaHead``, whose weights are shared over levels, refuses those.

    Args:
        base_sizes: the smallest size of each octave, square root of the area in pixels;
            ``list[float]`` for every level or ``list[list[float]]``, one list per level.
        scales_per_octave: n >= 1.
        aspect_ratios: height / width > 0; the same two forms as ``base_sizes``.
        strides: stride of each level in pixels.
        offset: centre of the first anchor in units of the stride, in [0, 1). The default is that of
            Detectron2's configs, 0; the argument of its ``DefaultAnchorGenerator`` has 0.5, so
            state it where one takes the other's place in a LazyConfig.
        round_sides: round the sides of the anchor whose size is the stride to whole pixels before
            scaling, as the authors' code (Detectron) does. Its boxes, of inclusive pixel
            coordinates and "+1" widths, are these boxes once ``offset`` is 0.5.

    Raises:
        UserError: an argument is out of its range, or has too few or too many levels.
    """

    # Tells ``AnchorLattice`` that anchors are cell anchors shifted by whole strides.
    is_regular_lattice = True

    @configurable
    def __init__(
        self,
        *,
        base_sizes: Sequence,
        scales_per_octave: int = 3,
        aspect_ratios: Sequence = (0.5, 1.0, 2.0),
        strides: Sequence[int],
        offset: float = 0.0,
        round_sides: bool = False,
    ):
        sizes = _sizes(base_sizes, scales_per_octave, strides)
        name = "aspect_ratios (MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS)"
        ratios = _per_level(aspect_ratios, strides, name)
        super().__init__(sizes=sizes, aspect_ratios=ratios, strides=list(strides), offset=offset)
        if round_sides:
            levels = zip(sizes, ratios, strides, strict=True)
            self.cell_anchors = BufferList([_rounded_cell_anchors(*level) for level in levels])

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        node = focal_retina_node(cfg)
        return {
            "base_sizes": cfg.MODEL.ANCHOR_GENERATOR.SIZES,
            "scales_per_octave": node.SCALES_PER_OCTAVE,
            "aspect_ratios": cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS,
            "strides": [shape.stride for shape in input_shape],
            "offset": cfg.MODEL.ANCHOR_GENERATOR.OFFSET,
            "round_sides": node.ROUND_ANCHORS,
        }

    def steps(self, grid_sizes: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
        """Return the pixels from cell to cell, in y and x, of each level."""
        return [(stride, stride) for stride in self.strides]

    def forward(self, features: Sequence[Tensor]) -> list[Boxes]:
        sizes = [x.shape[-2:] for x in features]
        offsets = [self.offset * stride for stride in self.strides]
        levels = zip(self.cell_anchors, offsets, sizes, self.steps(sizes), strict=True)
        return [Boxes(anchors_of_level(*level)) for level in levels]


@register(ANCHOR_GENERATOR_REGISTRY)
class TorchvisionAnchorGenerator(OctaveAnchorGenerator):
    """The anchors of torchvision's RetinaNet, in the order of ``OctaveAnchorGenerator``.

    Sizes are truncated and corners rounded to whole pixels, centres start at the image's corner,
    and the stride of a level is the padded image's side divided by the level's, in whole pixels:
    less than 64 and 128 for P6 and P7 where the padded side is not a multiple of those.
    """

    @configurable
    def __init__(
        self,
        *,
        base_sizes: Sequence,
        scales_per_octave: int = 3,
        aspect_ratios: Sequence = (0.5, 1.0, 2.0),
        strides: Sequence[int],
    ):
        sizes = _sizes(base_sizes, scales_per_octave, strides)
        super().__init__(
            base_sizes=[[int(size) for size in level] for level in sizes],
            scales_per_octave=1,
            aspect_ratios=aspect_ratios,
            strides=strides,
        )
        self.cell_anchors = BufferList([cell.round() for cell in self.cell_anchors])

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        arguments = OctaveAnchorGenerator.from_config(cfg, input_shape)
        return {k: v for k, v in arguments.items() if k not in ("offset", "round_sides")}

    def steps(self, grid_sizes: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
        image_size = [cells * self.strides[0] for cells in grid_sizes[0]]
        return [
            tuple(side // count for side, count in zip(image_size, cells, strict=True))
            for cells in grid_sizes
        ]


def anchors_of_level(
    cell_anchors: Tensor, offset: float, grid_size: Sequence[int], steps: Sequence[int]
) -> Tensor:
    """Return the anchors (H*W*A, 4) of a level, in the order (y, x, cell anchor).

    The values are Detectron2's, but no meshgrid is reshaped: torch.export would fix its sizes.

    Args:
        cell_anchors: (A, 4), xyxy around 0, pixels.
        offset: of the first cell, in x and y, pixels.
        grid_size: (H, W), cells.
        steps: from cell to cell, in y and x, pixels.
    """
    y, x = (
        # Summed in float64, as by torch.arange(offset, ...), and rounded once.
        (torch.arange(n, dtype=torch.float64, device=cell_anchors.device) * step + offset).float()
        for n, step in zip(grid_size, steps, strict=True)
    )
    y, x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([x, y, x, y], dim=-1).view(-1, 1, 4)
    return (shifts + cell_anchors).view(-1, 4)


def _sizes(base_sizes: Sequence, scales_per_octave: int, strides: Sequence) -> list[list[float]]:
    """Return the sizes of each level, pixels: the base sizes, each in all scales."""
    is_right = isinstance(scales_per_octave, int) and scales_per_octave >= 1
    name = "scales_per_octave (MODEL.FOCAL_RETINA.SCALES_PER_OCTAVE)"
    require(is_right, name, scales_per_octave, "be a whole number of at least 1")
    scales = [2 ** (k / scales_per_octave) for k in range(scales_per_octave)]
    levels = _per_level(base_sizes, strides, "base_sizes (MODEL.ANCHOR_GENERATOR.SIZES)")
    return [[size * scale for size in level for scale in scales] for level in levels]


def _per_level(values: Sequence, strides: Sequence[int], name: str) -> list[list[float]]:
    """Return a list of numbers for each level, from one list for each or one for all levels."""
    levels = list(values)
    if not any(isinstance(level, Sequence) for level in levels):
        levels = [levels]
    levels = [list(v) if isinstance(v, Sequence) else [v] for v in levels]
    numbers = [v for level in levels for v in level]
    is_right = all(isinstance(v, int | float) and v > 0 for v in numbers)
    require(is_right and numbers != [], name, values, "have numbers above 0")
    if len(levels) not in (1, len(strides)):
        raise UserError(
            f"{name} has {len(levels)} entries for {len(strides)} levels; "
            "give one list for all levels or one list per level"
        )
    return levels * len(strides) if len(levels) == 1 else levels


def _rounded_cell_anchors(sizes: Sequence[float], ratios: Sequence[float], stride: int) -> Tensor:
    """Return cell anchors (A, 4), xyxy around 0, whose stride-sized sides are whole pixels."""
    widths = [round(math.sqrt(stride * stride / ratio)) for ratio in ratios]
    sides = [(width, round(width * ratio)) for width, ratio in zip(widths, ratios, strict=True)]
    scaled = [(w * size / stride, h * size / stride) for size in sizes for w, h in sides]
    half = torch.tensor(scaled, dtype=torch.float32) / 2
    return torch.cat([-half, half], dim=1)
