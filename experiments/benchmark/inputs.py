"""What is measured: sizes, and random inputs of realistic statistics, the same in every call."""

from dataclasses import dataclass

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

STRIDES = (8, 16, 32, 64, 128)
NUM_ANCHORS = 9

# Mean of logits of standard deviation 1: so many of them pass a score threshold of 0.05 as with a
# trained model, with an early one, and with random weights.
LOGIT_MEANS = {"typical": -6.3, "many": -5.0, "very many": -3.1}


@dataclass(frozen=True)
class Setting:
    """Sizes of the benchmark's inputs.

    Args:
        device: "cpu" or "cuda".
        height, width: of the images, in pixels, above 128.
        depth: of the ResNet.
        num_classes: K.
        num_objects: objects per image, of the labelling cases.
        batch_size: images per batch, of the throughput cases; all others have one image.
        num_evaluation_images: of the evaluation case, with 100 detections each.
    """

    device: str = "cpu"
    height: int = 800
    width: int = 1216
    depth: int = 50
    num_classes: int = 80
    num_objects: tuple[int, ...] = (20, 200, 1000)
    batch_size: int = 16
    num_evaluation_images: int = 1250

    def __post_init__(self):
        # At one cell, Detectron2's in-place sigmoid would change the logits given to it.
        if min(self.height, self.width) <= STRIDES[-1]:
            raise ValueError(
                f"the image is {self.height} x {self.width} pixels; give sides above "
                f"{STRIDES[-1]}, the stride of the coarsest level"
            )

    @property
    def image_size(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def grid_sizes(self) -> list[tuple[int, int]]:
        """(H, W) of each level of features, of images padded to a multiple of 32 pixels."""
        height, width = (-(-side // 32) * 32 for side in self.image_size)
        return [(-(-height // stride), -(-width // stride)) for stride in STRIDES]

    @property
    def total_anchors(self) -> int:
        """R."""
        return sum(height * width * NUM_ANCHORS for height, width in self.grid_sizes)


def random_outputs(setting: Setting, channels: int, mean: float, std: float) -> list[Tensor]:
    """Return L x (1, A*channels, H, W), normally distributed, as a head gives them."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, NUM_ANCHORS * channels, *size) for size in setting.grid_sizes]
    outputs = [torch.randn(shape, generator=generator) * std + mean for shape in shapes]
    return [x.to(setting.device) for x in outputs]


def as_channels_last(outputs: list[Tensor]) -> list[Tensor]:
    """Return copies in channels_last, which our model's head gives by default."""
    return [x.detach().clone(memory_format=torch.channels_last) for x in outputs]


def random_objects(setting: Setting, count: int, seed: int = 0) -> Instances:
    """Return objects of about COCO's sizes: log-normal around 67 pixels, clipped to the image."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.tensor([setting.width, setting.height])
    centers = torch.rand(count, 2, generator=generator) * image
    shape = torch.randn(count, 2, generator=generator) * 0.5
    sides = (shape + torch.randn(count, 1, generator=generator) + 4.2).exp()
    low = (centers - sides / 2).clamp(min=0)
    high = torch.minimum(centers + sides / 2, image).maximum(low + 2)
    objects = Instances(setting.image_size)
    objects.gt_boxes = Boxes(torch.cat([low, high], dim=1))
    objects.gt_classes = torch.randint(setting.num_classes, (count,), generator=generator)
    return objects.to(setting.device)


def random_labels(setting: Setting, *, num_foreground: int, num_ignored: int) -> Tensor:
    """Return labels (1, R): classes of random anchors, -1 for others, K for the rest."""
    generator = torch.Generator().manual_seed(1)
    chosen = torch.randperm(setting.total_anchors, generator=generator)
    foreground, ignored = chosen[: num_foreground + num_ignored].tensor_split([num_foreground])
    labels = torch.full((1, setting.total_anchors), setting.num_classes)
    labels[0, foreground] = torch.randint(
        setting.num_classes, foreground.shape, generator=generator
    )
    labels[0, ignored] = -1
    return labels.to(setting.device)


def random_batch(setting: Setting, batch_size: int, num_objects: int = 20) -> list[dict]:
    """Return images of noise with objects, as Detectron2's data loader gives them."""
    generator = torch.Generator().manual_seed(2)
    shape = (3, *setting.image_size)
    objects = random_objects(setting, num_objects)
    return [
        {
            "image": torch.randint(256, shape, generator=generator).float().to(setting.device),
            "instances": objects,
        }
        for _ in range(batch_size)
    ]
