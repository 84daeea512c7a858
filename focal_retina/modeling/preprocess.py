"""Images of any size -> one normalised, padded batch."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import Backbone
from detectron2.structures import ImageList
from torch import Tensor, nn

from focal_retina.config import focal_retina_node
from focal_retina.errors import UserError


class ImagePreprocessor(nn.Module):
    """Normalise, pad and batch images.

    Args:
        pixel_mean, pixel_std: one number per channel, in the order of ``input_format``.
        input_format: order of channels, "BGR" or "RGB", for those who draw or load images.
        size_divisibility: pad to a multiple of so many pixels; 0 means the backbone's own. The
            authors' code pads to 128, the stride of P7.
        channels_last: lay the batch and the model's weights out in memory as (N, H, W, C).
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str = "BGR",
        size_divisibility: int = 0,
        channels_last: bool = True,
    ):
        super().__init__()
        self.input_format = input_format
        self.size_divisibility = size_divisibility
        self.channels_last = channels_last
        self._min_size: tuple[int, ...] | None = None  # inside ``padded_as_one``
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = focal_retina_node(cfg)
        return {
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "input_format": cfg.INPUT.FORMAT,
            "size_divisibility": node.SIZE_DIVISIBILITY,
            "channels_last": node.CHANNELS_LAST,
        }

    def forward(self, batched_inputs: list[dict], backbone: Backbone) -> ImageList:
        """Return the images, (N, C, H, W) float32, and their sizes before padding.

        Args:
            batched_inputs: N dicts with "image", (C, H, W), uint8 or float, 0 to 255.
            backbone: tells what its input's size must be a multiple of.
        """
        images = [self.normalize(x["image"].to(self.pixel_mean.device)) for x in batched_inputs]
        divisibility = self.divisibility(backbone)
        constraints = backbone.padding_constraints
        batch = ImageList.from_tensors(images, divisibility, padding_constraints=constraints)
        if self._min_size is not None:
            least = (-(-side // divisibility) * divisibility for side in self._min_size)
            sides = zip(least, batch.tensor.shape[2:], strict=True)
            bottom, right = (max(0, wanted - side) for wanted, side in sides)
            batch.tensor = F.pad(batch.tensor, (0, right, 0, bottom))
        if self.channels_last:
            batch.tensor = batch.tensor.contiguous(memory_format=torch.channels_last)
        return batch

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return pixels (..., C, H, W) of 0 to 255 as the network sees them."""
        return (pixels - self.pixel_mean) / self.pixel_std

    def divisibility(self, backbone: Backbone) -> int:
        """Return what height and width are padded to a multiple of, in pixels, >= 1."""
        chosen, needed = self.size_divisibility, backbone.size_divisibility
        if chosen and needed and chosen % needed:
            raise UserError(
                f"size_divisibility (MODEL.FOCAL_RETINA.SIZE_DIVISIBILITY) is {chosen}; the "
                f"backbone needs a multiple of {needed}, or 0 for its own"
            )
        return chosen or needed or 1

    @contextlib.contextmanager
    def padded_as_one(self, batches: Sequence[list[dict]]) -> Iterator[None]:
        """Inside this context, pad each of these batches to the size of all of them together.

        For micro-batches: padding is background to the loss, and group normalisation sees it.
        """
        sizes = [x["image"].shape[-2:] for batch in batches for x in batch]
        self._min_size = tuple(max(sides) for sides in zip(*sizes, strict=True))
        try:
            yield
        finally:
            self._min_size = None
