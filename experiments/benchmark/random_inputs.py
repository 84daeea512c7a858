"""Random inputs of realistic statistics, the same in every call."""

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

from experiments.benchmark.setting import NUM_ANCHORS, Setting

# Means of logits of standard deviation 1. As many of them pass a score threshold of 0.05 as with a
# trained model, a model early in its training, and random weights.
LOGIT_MEANS = {"typical": -6.3, "many": -5.0, "very many": -3.1}
DELTA_STD = 0.3


def random_outputs(setting: Setting, channels: int, mean: float, std: float) -> list[Tensor]:
    """Return L x (1, A*channels, H, W), normally distributed, as the output of a head."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, NUM_ANCHORS * channels, *size) for size in setting.grid_sizes]
    outputs = [torch.randn(shape, generator=generator) * std + mean for shape in shapes]
    return [x.to(setting.device) for x in outputs]


def as_channels_last(outputs: list[Tensor]) -> list[Tensor]:
    """Return copies in channels_last, the format of our head's outputs by default."""
    return [x.detach().clone(memory_format=torch.channels_last) for x in outputs]


def random_objects(setting: Setting, count: int, seed: int = 0) -> Instances:
    """Return objects of about COCO's sizes: log-normal around 67 pixels, within the image."""
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
    """Return labels (1, R): random anchors are foreground or ignored (-1), the others K."""
    generator = torch.Generator().manual_seed(1)
    chosen = torch.randperm(setting.total_anchors, generator=generator)
    foreground, ignored = chosen[: num_foreground + num_ignored].tensor_split([num_foreground])
    labels = torch.full((1, setting.total_anchors), setting.num_classes)
    labels[0, foreground] = torch.randint(
        setting.num_classes, foreground.shape, generator=generator
    )
    labels[0, ignored] = -1
    return labels.to(setting.device)


def random_batch(setting: Setting, batch_size: int) -> list[dict]:
    """Return images of noise with 20 objects each, in the form of Detectron2's data loader."""
    generator = torch.Generator().manual_seed(2)
    objects = random_objects(setting, 20)
    shape = (batch_size, 3, *setting.image_size)
    images = torch.randint(256, shape, generator=generator).float().to(setting.device)
    return [{"image": image, "instances": objects} for image in images]
