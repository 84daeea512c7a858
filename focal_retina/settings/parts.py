"""What every kind of config builds."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from detectron2.data import transforms as T
from detectron2.engine import HookBase
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer

from focal_retina.modeling.backbones import PixelFormat


@dataclass(frozen=True)
class TestInput:
    """How a picture is shown to the model at test."""

    image_format: str  # "BGR" or "RGB"
    augmentations: T.AugmentationList


class Parts(Protocol):
    """What a config builds; there is one class for each kind of config."""

    norm_remedy: str  # how to train without frozen normalisation

    def ddp(self) -> dict[str, Any]:
        """Return arguments of ``DistributedDataParallel``."""

    def num_classes_key(self) -> str | None:
        """Return the key of the model's number of classes; None where it has none."""

    def model(self) -> nn.Module: ...

    def optimizer(self, model: nn.Module) -> Optimizer: ...

    def lr_scheduler(self, optimizer: Optimizer) -> object: ...

    def train_loader(self) -> Iterable: ...

    def precise_bn(self, model: nn.Module) -> HookBase | None:
        """Return the hook of precise batch norm; None where it is off."""

    def test_loaders(self) -> dict[str, Callable[[], Iterable]]:
        """Return what builds the loaders to evaluate on, by name."""

    def evaluator(self) -> DictConfig | None:
        """Return the config's own evaluator; None for the one that suits each dataset."""

    def validation_loader(self) -> Iterable:
        """Return a loader of the test images, unaugmented, with their objects."""

    def check_tta(self) -> None:
        """Raise a UserError where test-time augmentation is asked for and not possible."""

    def tta_mapper(self) -> Callable | None:
        """Return the mapper of test-time augmentation; None where it is off."""

    def test_input(self) -> TestInput: ...

    def pixels(self) -> PixelFormat | None:
        """Return how pixels are normalised; None where the config does not say."""

    def ignored_keys(self) -> str | None:
        """Return a sentence on keys that nothing reads; None where there are none."""
