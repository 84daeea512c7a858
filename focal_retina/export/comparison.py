"""How far the outputs of two runtimes are from each other."""

from collections.abc import Sequence

import torch
from torch import Tensor

# Apart from every detection of another class or image.
_ELSEWHERE = 1e6


def largest_difference(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """Return the largest absolute difference of boxes (pixels), scores or raw outputs.

    Detections, whose order and number hang on rounding, are compared with the nearest of their
    class and image, both ways; where one has none, the result is 1e6 or infinite.

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
    columns = (boxes, scores[:, None], classes[:, None] * _ELSEWHERE)
    return torch.cat([*(x.double() for x in columns), image_idxs[:, None] * _ELSEWHERE], dim=1)
