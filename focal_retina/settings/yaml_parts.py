"""What a YAML config builds, as Detectron2's ``DefaultTrainer`` builds it."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import (
    DatasetCatalog,
    DatasetMapper,
    MetadataCatalog,
    build_detection_test_loader,
)
from detectron2.data import transforms as T
from detectron2.engine import hooks
from detectron2.modeling import DatasetMapperTTA, build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from focal_retina.data.loader import build_train_loader
from focal_retina.data.mapper import NamingMapper, ResizeShortestEdge, build_mapper
from focal_retina.detectron2_internals import clipping_of_gradients_that_are_there
from focal_retina.errors import UserError
from focal_retina.modeling.backbones import PixelFormat
from focal_retina.settings import advice
from focal_retina.settings.foreign_errors import empty_data_errors


class YamlParts:
    """The parts of a run; ``LazyParts`` has the same methods."""

    # How to train without frozen normalisation.
    norm_remedy = "MODEL.RESNETS.NORM BN (or GN) and MODEL.BACKBONE.FREEZE_AT 0"

    def __init__(self, cfg: CfgNode):
        self.cfg = cfg

    def ddp(self) -> dict[str, Any]:
        """Return arguments of ``DistributedDataParallel``."""
        return {"broadcast_buffers": False}

    def num_classes_key(self) -> str:
        """Return the key of the model's number of classes; None where it has none."""
        is_retinanet = "RetinaNet" in self.cfg.MODEL.META_ARCHITECTURE
        return f"MODEL.{'RETINANET' if is_retinanet else 'ROI_HEADS'}.NUM_CLASSES"

    def model(self) -> nn.Module:
        return build_model(self.cfg)

    def optimizer(self, model: nn.Module) -> Optimizer:
        with clipping_of_gradients_that_are_there():
            return build_optimizer(self.cfg, model)

    def lr_scheduler(self, optimizer: Optimizer) -> LRScheduler:
        return build_lr_scheduler(self.cfg, optimizer)

    def train_loader(self) -> Iterable:
        self._check_annotations()
        mapper = NamingMapper(build_mapper(self.cfg, is_train=True))
        with empty_data_errors(self.cfg.DATASETS.TRAIN, "DATALOADER.FILTER_EMPTY_ANNOTATIONS"):
            return build_train_loader(self.cfg, mapper=mapper)

    def _check_annotations(self) -> None:
        """Raise a UserError if a dataset lacks the masks or keypoints that the model learns."""
        for name in self.cfg.DATASETS.TRAIN:
            if self.cfg.MODEL.KEYPOINT_ON and not MetadataCatalog.get(name).get("keypoint_names"):
                raise UserError(
                    f"MODEL.KEYPOINT_ON is True, but dataset {name} has no keypoints (no "
                    "keypoint_names in its metadata)"
                )
            if self.cfg.MODEL.MASK_ON and not any(
                "segmentation" in thing
                for record in DatasetCatalog.get(name)
                for thing in record["annotations"]
            ):
                raise UserError(f"MODEL.MASK_ON is True, but dataset {name} has no masks")

    def boxes_only(self) -> bool:
        """Return whether training is known to use neither masks nor keypoints."""
        return not (self.cfg.MODEL.MASK_ON or self.cfg.MODEL.KEYPOINT_ON)

    def smallest_resize(self) -> tuple[int, int] | None:
        """Return the smallest size of training: the shorter side, and the limit of the longer one.

        None where images are not resized.
        """
        return min(self.cfg.INPUT.MIN_SIZE_TRAIN), self.cfg.INPUT.MAX_SIZE_TRAIN

    def precise_bn(self, model: nn.Module) -> hooks.HookBase | None:
        """Return the hook of precise batch norm; None where it is off."""
        if not (self.cfg.TEST.PRECISE_BN.ENABLED and get_bn_modules(model)):
            return None
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATALOADER.NUM_WORKERS = 0  # as Detectron2 does, to save memory
        period, iterations = cfg.TEST.EVAL_PERIOD, cfg.TEST.PRECISE_BN.NUM_ITER
        return hooks.PreciseBN(period, model, YamlParts(cfg).train_loader(), iterations)

    def test_loaders(self) -> dict[str, Callable]:
        """Return what builds the loaders to evaluate on, by name."""
        return {name: partial(self._test_loader, name) for name in self.cfg.DATASETS.TEST}

    def _test_loader(self, name: str) -> Iterable:
        mapper = NamingMapper(build_mapper(self.cfg, is_train=False))
        return build_detection_test_loader(self.cfg, name, mapper=mapper)

    def evaluator(self) -> None:
        """Return the config's own evaluator; None for the one that suits each dataset."""
        return None

    def validation_loader(self) -> Iterable:
        """Return a loader of the test images, unaugmented, with their objects."""
        cfg = self.cfg
        resize = ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
        mapper = DatasetMapper(cfg, is_train=True, augmentations=[resize], recompute_boxes=False)
        datasets = list(cfg.DATASETS.TEST)
        return build_detection_test_loader(cfg, datasets, mapper=NamingMapper(mapper))

    def tta_mapper(self) -> DatasetMapperTTA | None:
        """Return the mapper of test-time augmentation; None where it is off.

        Raises:
            UserError: the model has no such augmentation.
        """
        name = self.cfg.MODEL.META_ARCHITECTURE
        if not self.cfg.TEST.AUG.ENABLED:
            return None
        if name != "FocalRetinaNet":
            raise UserError(
                "TEST.AUG.ENABLED: there is test-time augmentation for MODEL.META_ARCHITECTURE "
                f"FocalRetinaNet only, not for {name}"
            )
        return DatasetMapperTTA(self.cfg)

    def test_input(self) -> tuple[str, T.AugmentationList]:
        """Return how a picture is shown to the model at test: "BGR" or "RGB", and its changes."""
        return self.cfg.INPUT.FORMAT, build_mapper(self.cfg, is_train=False).augmentations

    def pixels(self) -> PixelFormat:
        """Return how pixels are normalised; None where the config does not say."""
        model = self.cfg.MODEL
        return PixelFormat(model.PIXEL_MEAN, model.PIXEL_STD, self.cfg.INPUT.FORMAT)

    def ignored_keys(self) -> str | None:
        """Return a sentence on keys that nothing reads; None where there are none."""
        return advice.ignored_keys(self.cfg)
