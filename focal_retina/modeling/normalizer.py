"""The number that both losses are divided by.

The paper divides the loss of an image by its foreground anchors. It does not say how images and
GPUs are combined: each known answer is a choice here.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.utils import comm
from torch import Tensor, nn

from focal_retina.config import focal_retina_node
from focal_retina.errors import require_choice

NORMALIZERS = ("image", "gpu", "all_gpus", "ema")

# Divides micro-batches until the count of the whole batch is known. It is near that of a typical
# batch, since float16 gradients could overflow with 1, and a power of two, which rounds nothing.
_PROVISIONAL_DIVISOR = 128.0


class LossNormalizer(nn.Module):
    """Turn the foreground counts of a batch into the divisor of its losses.

    Args:
        kind: which foreground anchors divide a loss.
            "image": each image's loss is divided by its own, then averaged over images (paper);
            "gpu": those of all images of this GPU;
            "all_gpus": those of all images, divided by the number of GPUs. The mean gradient over
            GPUs is then that of one GPU with all images;
            "ema": the running mean of "gpu" (Detectron2). It is a buffer, so a resumed run
            continues with it; Detectron2 starts again from ``start``.
        offset: added to the count once per image ("gpu", "all_gpus"). The authors' code has 1.
        start: first value of the running mean, in anchors, > 0.
        momentum: share of its old value that the running mean keeps, in [0, 1).
    """

    foreground_ema: Tensor

    @configurable
    def __init__(
        self, *, kind: str = "ema", offset: float = 0, start: float = 100.0, momentum: float = 0.9
    ):
        super().__init__()
        require_choice("kind (MODEL.FOCAL_RETINA.NORMALIZER)", kind, NORMALIZERS)
        self.kind, self.offset, self.momentum = kind, offset, momentum
        self._micro_batches: list[Tensor] | None = None  # their counts, inside ``deferred``
        if kind == "ema":
            # float64 because Detectron2's value is a Python float.
            self.register_buffer("foreground_ema", torch.tensor(start, dtype=torch.float64))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = focal_retina_node(cfg)
        return {"kind": node.NORMALIZER, "offset": node.NORMALIZER_OFFSET}

    def forward(self, num_foreground: Tensor) -> Tensor:
        """Return the divisor, float64: (N,) for kind "image", else 0-dim.

        Args:
            num_foreground: (N,), int64, foreground anchors of each image.
        """
        counts = num_foreground.double()
        if self._micro_batches is None:
            return self._divisor(counts)
        self._micro_batches.append(counts)
        if self.kind == "image":
            return counts.clamp(min=1)
        return counts.new_tensor(_PROVISIONAL_DIVISOR)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[Callable[[], Tensor]]:
        """Inside this context, each call is for one micro-batch of a larger batch.

        The context gives a function to call once, after the last micro-batch. It returns a factor,
        0-dim float64: losses and gradients, summed over the micro-batches, become those of the
        whole batch when multiplied by it. It also updates the running mean of "ema".
        """
        counts: list[Tensor] = []
        self._micro_batches = counts

        def factor() -> Tensor:
            whole = torch.cat(counts)
            if self.kind == "image":
                return whole.new_tensor(1 / len(whole))
            return _PROVISIONAL_DIVISOR / self._divisor(whole)

        try:
            yield factor
        finally:
            self._micro_batches = None

    def divisors_of_sums(self, num_foreground: Tensor) -> tuple[Tensor, Tensor]:
        """Return the divisor of this batch, 0-dim or (N,), and its share of the second, 0-dim.

        The losses of many batches, each divided by the first, are added up; the second, added up
        over the batches, divides that sum. "ema" and "all_gpus" do as "gpu" here. Both are float64.
        """
        counts = num_foreground.double()
        if self.kind == "image":
            return counts.clamp(min=1), counts.new_tensor(len(counts))
        return counts.new_ones(()), (counts + self.offset).sum()

    def _divisor(self, counts: Tensor) -> Tensor:
        if self.kind == "image":
            return counts.clamp(min=1) * len(counts)
        total = (counts + self.offset).sum()
        if self.kind == "gpu":
            return total.clamp(min=1)
        if self.kind == "all_gpus":
            if comm.get_world_size() > 1:
                torch.distributed.all_reduce(total)
            return total.clamp(min=1) / comm.get_world_size()
        if self.training:
            # Three roundings, in the order of Detectron2's `_ema_update`.
            count = counts.sum().clamp(min=1) * (1 - self.momentum)
            self.foreground_ema.copy_(self.foreground_ema * self.momentum + count)
        return self.foreground_ema.clone()
