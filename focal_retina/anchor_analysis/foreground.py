"""Which objects training matches with no foreground anchor."""

from itertools import groupby

import torch
from detectron2.structures import Boxes
from torch import Tensor

from focal_retina.anchor_analysis.anchor_config import AnchorGrids
from focal_retina.anchor_analysis.objects import Objects
from focal_retina.ops.matching.lattice import AnchorLattice
from focal_retina.ops.matching.match_anchors import match_anchors
from focal_retina.ops.matching.rule import MatchRule


def without_foreground(
    objects: Objects, grids: AnchorGrids, image_idxs: Tensor, rule: MatchRule
) -> Tensor:
    """Label some images as training does, and return which objects get no foreground anchor.

    Args:
        image_idxs: the images to label, int64.
        rule: the label of each IoU.

    Returns:
        (G,), bool; False for the objects of other images.
    """
    unmatched = torch.zeros(len(objects), dtype=torch.bool)
    # Images of the same grids have the same anchors.
    ordered = sorted(image_idxs.tolist(), key=grids.of_image)
    for grid_sizes, group in groupby(ordered, key=grids.of_image):
        anchors = Boxes.cat(grids.generator([torch.empty(1, 1, *size) for size in grid_sizes]))
        lattice = AnchorLattice.of(grids.generator, grid_sizes)
        for image_idx in group:
            rows = (objects.image_idxs == image_idx).nonzero().squeeze(1)
            boxes = objects.boxes[rows]
            matches, labels = match_anchors(anchors.tensor, boxes, rule, lattice=lattice)
            unmatched[rows] = True
            unmatched[rows[matches[labels == 1]]] = False
    return unmatched
