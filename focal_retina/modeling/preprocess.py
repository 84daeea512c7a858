"""Images of any size -> one normalised, padded batch."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.modeling import Backbone
from detectron2.structures import ImageList
from torch import nn

from focal_retina.config import focal_retina_node


class ImagePreprocessor(nn.Module):
    """Normalise, pad and batch images.

    Args:
        pixel_mean, pixel_std: one number per channel, in the order of ``input_format``.
        input_format: order of channels, "BGR" or "RGB", for those who draw or load images.
        size_divisibility: pad to a multiple of so many pixels; 0 means the backbone's own.
            The authors' code pads to 128, the stride of P7.
        channels_last: lay the batch out as (N, H, W, C) in memory; its values and shape are the
            same. The model lays out its weights to match, and computes some of its convolutions in
            another way, see ``modeling.convolution``.
    """

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
        # Pieces of a batch are padded as the whole is: the least height and width, in pixels.
        self.min_size = (0, 0)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg):
        return {
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "input_format": cfg.INPUT.FORMAT,
            "size_divisibility": focal_retina_node(cfg).SIZE_DIVISIBILITY,
            "channels_last": focal_retina_node(cfg).CHANNELS_LAST,
        }

    def forward(self, batched_inputs: list[dict], backbone: Backbone) -> ImageList:
        """Return the images, (N, C, H, W) float32, and their sizes before padding.

        Args:
            batched_inputs: N dicts with "image", (C, H, W), uint8 or float, 0 to 255.
            backbone: tells what its input's size must be a multiple of.
        """
        images = [x["image"].to(self.pixel_mean.device) for x in batched_inputs]
        images = [(x - self.pixel_mean) / self.pixel_std for x in images]
        divisibility = self.size_divisibility or backbone.size_divisibility
        # Detectron2 0.6 has no padding constraints.
        constraints = getattr(backbone, "padding_constraints", None)
        kwargs = {"padding_constraints": constraints} if constraints else {}
        batch = ImageList.from_tensors(images, divisibility, **kwargs)
        batch.tensor = _pad_to(batch.tensor, self.min_size, divisibility or 1)
        if self.channels_last:
            batch.tensor = batch.tensor.contiguous(memory_format=torch.channels_last)
        return batch


def _pad_to(images: torch.Tensor, min_size: tuple[int, int], divisibility: int) -> torch.Tensor:
    """Pad images (N, C, H, W) at the bottom and right to at least a multiple over ``min_size``."""
    height, width = (-(-side // divisibility) * divisibility for side in min_size)
    bottom, right = max(0, height - images.shape[2]), max(0, width - images.shape[3])
    return F.pad(images, (0, right, 0, bottom)) if bottom or right else images
