"""The losses on held-out images."""

import copy
from collections import Counter
from collections.abc import Iterable

import numpy as np
import torch
from detectron2.config import CfgNode, instantiate
from detectron2.data import (
    DatasetMapper,
    build_detection_test_loader,
    get_detection_dataset_dicts,
)
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch import Tensor, nn

from focal_retina.data.mapper import ResizeShortestEdge
from focal_retina.data.seeding import random_state_kept
from focal_retina.modeling.normalizer import LossNormalizer
from focal_retina.training.accumulation import divides_by_foreground

# Layers whose training mode is not wanted.
_NOISY = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


@torch.no_grad()
def validation_losses(model: nn.Module, loader: Iterable[list[dict]]) -> dict[str, float]:
    """Return "val_loss_cls" and so on, and "val_total_loss", on every process.

    The losses of a ``FocalRetinaNet`` are those of all images as one batch, without its padding:
    the mean over images for the normaliser "image", else the sum divided by all foreground. Those
    of other models are the mean over images. A copy of the model computes them in float32, with
    batch norm's statistics: nothing of the model, its normaliser or a random state changes.

    Args:
        model: without the wrapper of ``DistributedDataParallel``, in any mode.
        loader: of single images with "instances"; this process's share.
    """
    # fork_rng is for the generators of other devices; in iteration 0 models draw pictures.
    with random_state_kept(), torch.random.fork_rng(), EventStorage(1):
        model = _in_training_mode(copy.deepcopy(model))
        normalizer = _count_foreground(model)
        sums, images = Counter(), 0
        for batch in loader:
            sums.update({name: loss.double() for name, loss in model(batch).items()})
            images += len(batch)
    divisor = normalizer.total if normalizer else images
    # OHEM gives the mean over an image's examples, whatever the normaliser.
    selection = model.loss.example_selection if normalizer else None
    by_image = selection is not None and selection.normalizer == "examples"
    return _means(sums, divisor, {"loss_cls": images} if by_image else {})


def _means(sums: Counter, divisor, divisors: dict) -> dict[str, float]:
    """Divide the sums over all processes by ``divisors``, where they have none by ``divisor``."""
    pairs = {name: (float(x), float(divisors.get(name, divisor))) for name, x in sums.items()}
    gathered = comm.all_gather(pairs)
    means = {}
    for name in dict.fromkeys(name for found in gathered for name in found):
        total, count = np.sum([found[name] for found in gathered if name in found], axis=0)
        means[f"val_{name}"] = float(total / max(count, 1))
    return {**means, "val_total_loss": sum(means.values())}


def build_validation_loader(cfg: CfgNode):
    """Return a loader of the images and objects of ``DATASETS.TEST``, sized as for the test."""
    resize = ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
    mapper = DatasetMapper(cfg, is_train=True, augmentations=[resize], recompute_boxes=False)
    dataset = get_detection_dataset_dicts(
        cfg.DATASETS.TEST,
        filter_empty=False,
        proposal_files=cfg.DATASETS.PROPOSAL_FILES_TEST if cfg.MODEL.LOAD_PROPOSALS else None,
    )
    return build_detection_test_loader(
        dataset, mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS
    )


def lazy_validation_loader(dataloader: DictConfig):
    """Return the loader of ``dataloader.test`` with objects, as the training's mapper has them."""
    dataloader = copy.deepcopy(dataloader)
    mapper = dataloader.test.mapper
    mapper.is_train = True
    for name in ("use_instance_mask", "use_keypoint", "instance_mask_format"):
        if name in dataloader.train.mapper:
            mapper[name] = dataloader.train.mapper[name]
    return instantiate(dataloader.test)


class _Foreground(nn.Module):
    """A normaliser that leaves the sum of the losses, and adds up what to divide it by."""

    def __init__(self, normalizer: LossNormalizer):
        super().__init__()
        self._per_image, self._offset = normalizer.kind == "image", normalizer.offset
        self.total = 0

    def forward(self, num_foreground: Tensor) -> Tensor:
        counts = num_foreground.double()
        self.total = self.total + (
            len(counts) if self._per_image else (counts + self._offset).sum()
        )
        return counts.clamp(min=1) if self._per_image else counts.new_ones(())


def _count_foreground(model: nn.Module) -> _Foreground | None:
    if not divides_by_foreground(model):
        return None
    model.monitor = None
    model.loss.normalizer = _Foreground(model.loss.normalizer)
    return model.loss.normalizer


def _in_training_mode(model: nn.Module) -> nn.Module:
    model.train()
    for module in model.modules():
        if isinstance(module, _NOISY):
            module.eval()
    return model
