"""The number that both losses are divided by.

The paper divides each image's loss by its foreground anchors and leaves open how images and GPUs
are combined; every known answer is a choice here.
"""

import contextlib
from collections.abc import Iterator

import torch
from detectron2.config import configurable
from detectron2.utils import comm
from torch import Tensor, nn

from focal_retina.config import focal_retina_node

NORMALIZERS = ("image", "gpu", "all_gpus", "ema")

# Foreground anchors of a typical batch. Dividing by 1 before the count is known would let float16
# gradients overflow; a power of two rounds nothing.
_PROVISIONAL = 128.0


class LossNormalizer(nn.Module):
    """Turn foreground counts into the divisor of the losses.

    Args:
        kind: "image": the mean over images of (loss / foreground), the paper;
            "gpu": the foreground of this GPU's images;
            "all_gpus": that of all GPUs' images divided by the number of GPUs, so that the mean
            gradient over GPUs is the one of a single GPU with all the images;
            "ema": a running mean of "gpu" (Detectron2). Here it is a buffer, so that a resumed
            run goes on with it; Detectron2 starts again from ``start``.
        offset: added to the count once for every image ("gpu", "all_gpus"). 1 is Detectron's.
        start: first value of "ema", in anchors.
        momentum: of "ema", in [0, 1).
    """

    @configurable
    def __init__(
        self,
        *,
        kind: str = "ema",
        offset: float = 0,
        start: float = 100.0,
        momentum: float = 0.9,
    ):
        super().__init__()
        if kind not in NORMALIZERS:
            raise ValueError(
                f"normalizer kind (MODEL.FOCAL_RETINA.NORMALIZER) is {kind!r}; "
                f"choose one of {', '.join(NORMALIZERS)}"
            )
        self.kind = kind
        self.offset = offset
        self.momentum = momentum
        # Counts of the pieces seen so far within ``deferred``.
        self._pieces = None
        if kind == "ema":
            # float64 because Detectron2's value is a Python float.
            self.register_buffer("foreground_ema", torch.tensor(start, dtype=torch.float64))

    @classmethod
    def from_config(cls, cfg):
        node = focal_retina_node(cfg)
        return {
            "kind": node.NORMALIZER,
            "offset": node.NORMALIZER_OFFSET,
            "start": node.NORMALIZER_START,
            "momentum": node.NORMALIZER_MOMENTUM,
        }

    def forward(self, num_foreground: Tensor) -> Tensor:
        """Return the divisor: 0-dim, or (N,) for kind "image", float64.

        Args:
            num_foreground: (N,), int64, foreground anchors of each image.
        """
        counts = num_foreground.double()
        if self._pieces is not None:
            self._pieces.append(counts)
            is_per_image = self.kind == "image"
            return counts.clamp(min=1) if is_per_image else counts.new_full((), _PROVISIONAL)
        return self._divisor(counts)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Within, take the calls for pieces of one batch.

        They all divide by the same; the losses and gradients summed over the pieces are those of
        the whole batch once multiplied by ``correction()``.
        """
        self._pieces = []
        try:
            yield
        finally:
            self._pieces = None

    def correction(self) -> Tensor:
        """Return the factor, 0-dim float64, for the pieces so far; updates "ema", once a batch."""
        counts = torch.cat(self._pieces)
        if self.kind == "image":
            return counts.new_full((), 1 / len(counts))
        return _PROVISIONAL / self._divisor(counts)

    def _divisor(self, counts: Tensor) -> Tensor:
        if self.kind == "image":
            return counts.clamp(min=1) * len(counts)
        total = (counts + self.offset).sum()
        if self.kind == "all_gpus":
            return _sum_over_gpus(total).clamp(min=1) / comm.get_world_size()
        if self.kind == "gpu":
            return total.clamp(min=1)
        return self._running_mean(counts.sum().clamp(min=1))

    def _running_mean(self, count: Tensor) -> Tensor:
        if self.training:
            # Three roundings, in the order of Detectron2's `_ema_update`.
            self.foreground_ema.copy_(
                self.foreground_ema * self.momentum + count * (1 - self.momentum)
            )
        return self.foreground_ema.clone()


def _sum_over_gpus(value: Tensor) -> Tensor:
    if comm.get_world_size() > 1:
        torch.distributed.all_reduce(value)
    return value
