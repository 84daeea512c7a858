"""The losses on held-out images."""

import copy
from collections import Counter
from collections.abc import Iterable

import numpy as np
import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from focal_retina.data.seeding import random_state_kept
from focal_retina.detectron2_internals import BatchNorm, Dropout


@torch.no_grad()
def validation_losses(model: nn.Module, loader: Iterable[list[dict]]) -> dict[str, float]:
    """Return "val_loss_cls" and so on, and "val_total_loss", on every process.

    The losses of a ``FocalRetinaNet`` are those of all images as one batch, but without its
    padding: see ``FocalRetinaLoss.sums``. Those of other models are the mean over images. A copy of
    the model computes them in float32, with batch norm's statistics: the model, its normaliser and
    all random states stay as they are.

    Args:
        model: without the wrapper of ``DistributedDataParallel``, in any mode.
        loader: of single images with "instances"; this process's share.
    """
    # fork_rng is for the generators of other devices; in iteration 0 models draw pictures.
    with random_state_kept(), torch.random.fork_rng(), EventStorage(1):
        model = _in_training_mode(copy.deepcopy(model))
        sums: Counter[str] = Counter()
        for batch in loader:
            sums.update(_loss_sums(model, batch))
    gathered = comm.all_gather({name: pair.tolist() for name, pair in sums.items()})
    means = {}
    for name in dict.fromkeys(name for found in gathered for name in found):
        total, count = np.sum([found[name] for found in gathered if name in found], axis=0)
        means[f"val_{name}"] = float(total / max(count, 1))
    return {**means, "val_total_loss": sum(means.values())}


def _loss_sums(model: nn.Module, batch: list[dict]) -> dict[str, Tensor]:
    """Return each loss as its sum and what divides it, (2,) float64, to be added up."""
    if getattr(model, "divides_by_foreground", False):
        return model.loss_sums(batch)
    losses = {name: loss.double() for name, loss in model(batch).items()}
    return {name: torch.stack([x, x.new_tensor(len(batch))]) for name, x in losses.items()}


def _in_training_mode(model: nn.Module) -> nn.Module:
    """Return the model in the mode that has losses, but with layers that behave as at test."""
    model.train()
    for module in model.modules():
        if isinstance(module, (BatchNorm, Dropout)):
            module.eval()
    return model
