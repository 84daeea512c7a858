"""An exponential moving average of the weights, which is evaluated and saved."""

import copy
import itertools
from collections import defaultdict

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from focal_retina.checkpoint.checkpointer import FocalCheckpointer


class WeightsCheckpointer(FocalCheckpointer):
    """Save weights beside the checkpoints of a run: ``--resume`` never goes on from them."""

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        pass


class ModelEMA(HookBase):
    """Keep ``model``, a copy of the trained one with averaged weights.

    After each step, its floating-point parameters and buffers go to ``decay`` times themselves plus
    (1 - ``decay``) times those of the trained one; other buffers are copied. In iteration t the
    decay is at most (1 + t) / (10 + t), so that an average over few steps has none of the initial
    weights. Checkpoints have the average; a run resumed from one without starts from the weights.

    Args:
        trained: without the wrapper of ``DistributedDataParallel``.
        decay: in (0, 1).
        output_dir: for ``model_final_ema.pth``, the average as usual weights.
        classes: ``class_names`` and ``category_ids`` of ``FocalCheckpointer``.
    """

    def __init__(self, trained: nn.Module, decay: float, output_dir: str, **classes):
        self.model = copy.deepcopy(trained).requires_grad_(False)
        self._trained, self._decay = trained, decay
        self._checkpointer = WeightsCheckpointer(self.model, output_dir, **classes)
        self._is_loaded = False

    def before_train(self) -> None:
        if not self._is_loaded:
            self.model.load_state_dict(self._trained.state_dict())

    @torch.no_grad()
    def after_step(self) -> None:
        t = self.trainer.iter
        decay = min(self._decay, (1 + t) / (10 + t))
        groups = defaultdict(list)
        for mine, theirs in zip(_tensors(self.model), _tensors(self._trained), strict=True):
            if mine.is_floating_point():
                groups[mine.dtype].append((mine, theirs))
            else:
                mine.copy_(theirs)
        for pairs in groups.values():
            mine, theirs = zip(*pairs, strict=True)
            get_ema_multi_avg_fn(decay)(mine, theirs, t)

    def save_final(self, iteration: int) -> None:
        """Write ``model_final_ema.pth``; raise an OSError if that is impossible."""
        self._checkpointer.save("model_final_ema", iteration=iteration)

    def state_dict(self) -> dict:
        return {"model": self.model.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        self.model.load_state_dict(state_dict["model"])
        self._is_loaded = True


def _tensors(model: nn.Module) -> list[Tensor]:
    return [x.detach() for x in itertools.chain(model.parameters(), model.buffers())]
