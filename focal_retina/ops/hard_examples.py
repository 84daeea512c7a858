"""Online hard example mining: the anchors of highest loss that do not overlap each other."""

import torch
from torch import Tensor
from torchvision.ops import nms


@torch.no_grad()
def hard_examples(
    losses: Tensor,
    boxes: Tensor,
    is_foreground: Tensor,
    *,
    batch_size: int,
    nms_thresh: float,
    one_to_three: bool = False,
) -> Tensor:
    """Return the anchors to keep of one image, as indices by descending loss.

    NMS runs first, by loss and over all classes together. Then the ``batch_size`` anchors of
    highest loss are kept; of equal losses the lower index counts as higher. With ``one_to_three``
    the ``batch_size // 4`` foreground anchors of highest loss are kept, at least one, and three
    times as many background anchors as foreground ones (three if there is no foreground).

    Args:
        losses: (M,) float.
        boxes: (M, 4) float, pixels, xyxy.
        is_foreground: (M,) bool.
        batch_size: anchors to keep, >= 1.
        nms_thresh: NMS drops an anchor whose IoU with a kept one of higher loss is above it.
        one_to_three: see above.

    Source: paper Sec. 5.1, "Online Hard Example Mining". The paper does not say that 1:3 limits the
    foreground to a quarter, nor what happens without foreground: that is our reading.
    """
    order = losses.sort(descending=True, stable=True).indices
    count = min(len(order), 16 * batch_size)
    while True:
        # NMS looks only at anchors of higher loss: a prefix is enough, if it leaves enough anchors.
        prefix = order[:count]
        ranks = -torch.arange(count, dtype=boxes.dtype, device=boxes.device)
        left = prefix[nms(boxes[prefix], ranks, nms_thresh)]
        rest_has_foreground = bool(is_foreground[order[count:]].any())
        kept, is_enough = left[:batch_size], len(left) >= batch_size
        if one_to_three:
            kept, is_enough = _one_to_three(
                left, is_foreground[left], batch_size, rest_has_foreground
            )
        if is_enough or count == len(order):
            return kept
        count = min(len(order), 4 * count)


def _one_to_three(
    left: Tensor, is_foreground: Tensor, batch_size: int, rest_has_foreground: bool
) -> tuple[Tensor, bool]:
    """Return the anchors to keep, and whether no anchor behind the prefix can change that."""
    max_foreground = max(1, batch_size // 4)
    num_foreground = min(int(is_foreground.sum()), max_foreground)
    max_background = 3 * max(1, num_foreground)
    is_background = ~is_foreground
    is_kept = torch.where(
        is_foreground,
        is_foreground.cumsum(0) <= max_foreground,
        is_background.cumsum(0) <= max_background,
    )
    has_foreground = num_foreground == max_foreground or not rest_has_foreground
    return left[is_kept], has_foreground and int(is_background.sum()) >= max_background
