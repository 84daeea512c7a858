"""How far the outputs of two runtimes are from each other."""

from collections.abc import Sequence

import torch
from torch import Tensor

# Distance between detections of different classes or images.
_FAR = 1e6


def largest_difference(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """Return the largest absolute difference of boxes (pixels), scores or raw outputs.

    Rounding may change the order and the number of detections. So each is compared with the
    nearest of its class and image, in both directions. If there is none, the result is at least
    1e6, or infinite.

    Args:
        expected, found: outputs of ``RawOutputs`` (3 tensors) or ``Detections`` (4).
    """
    if len(expected) == 3:
        pairs = zip(expected, found, strict=True)
        return max(float((a - b).abs().max()) for a, b in pairs)
    first, second = _points(*expected), _points(*found)
    if not len(first) or not len(second):
        return 0.0 if len(first) == len(second) else float("inf")
    distances = torch.cdist(first, second, p=float("inf"))
    return float(torch.maximum(distances.amin(1).amax(), distances.amin(0).amax()))


def _points(boxes: Tensor, scores: Tensor, classes: Tensor, image_idxs: Tensor) -> Tensor:
    columns = [scores, classes * _FAR, image_idxs * _FAR]
    return torch.cat([boxes.double(), torch.stack([x.double() for x in columns], 1)], dim=1)
