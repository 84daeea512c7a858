"""End a run before a step whose loss is not finite, and keep what is needed to look into it."""

import math
import os
from collections.abc import Callable
from typing import NoReturn

import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from focal_retina.detectron2_internals import BatchNorm
from focal_retina.errors import TrainingError
from focal_retina.modeling.losses import FocalRetinaLoss
from focal_retina.modeling.normalizer import LossNormalizer
from focal_retina.training.replay import save_batch

_REMEDY = (
    "look at the objects of these images; if they are right, lower the learning rate, lengthen its "
    "warm-up, or clip the gradients (SOLVER.CLIP_GRADIENTS.ENABLED True; train.clip_gradients)"
)
# Modules whose buffers a forward pass in training mode changes.
_CHANGING = (BatchNorm, LossNormalizer)


class NonFiniteError(TrainingError, FloatingPointError):
    """A loss or gradient became NaN or infinite; the message says where, and what to try."""


class NonFiniteWatch:
    """Keep what is needed to run the batch of a step again.

    Args:
        model: without the wrapper of ``DistributedDataParallel``.
        output_dir: folder of the file with batch and weights.
        dtype: of autocast, or None.
    """

    def __init__(self, model: nn.Module, output_dir: str, dtype: torch.dtype | None = None):
        self._model, self._output_dir, self._dtype = model, output_dir, dtype
        modules = [module for module in model.modules() if isinstance(module, _CHANGING)]
        self._buffers = [buffer for module in modules for buffer in module.buffers()]
        self._kept = [buffer.clone() for buffer in self._buffers]

    def remember(self) -> None:
        """Keep the buffers that the forward pass is about to change."""
        for kept, buffer in zip(self._kept, self._buffers, strict=True):
            kept.copy_(buffer)

    def end(
        self,
        iteration: int,
        micro_batches: list[list[dict]],
        losses: list[dict[str, float]],
        forward: Callable[[list[dict]], object],
    ) -> NoReturn:
        """Raise a NonFiniteError on every process. All processes must call this together.

        The processes at fault write ``nonfinite_iter_<iteration>_rank<rank>.pth``, see ``replay``.

        Args:
            micro_batches: of this process's batch.
            losses: of each micro-batch, by name. If they are finite on all processes, the
                gradients are not.
            forward: lets a micro-batch go through the model.
        """
        bad = [i for i, row in enumerate(losses) if not all(map(math.isfinite, row.values()))]
        is_loss = any(comm.all_gather(bool(bad)))
        batch = [x for micro_batch in micro_batches for x in micro_batch]
        levels, sentence = [], None
        if is_loss:
            batch = micro_batches[bad[0] if bad else 0]
            # On all processes: batch norm may wait for the others.
            levels = _faulty_levels(self._model, lambda: forward(batch))
        for kept, buffer in zip(self._kept, self._buffers, strict=True):
            buffer.copy_(kept)
        if bad or not is_loss:
            fault = _of_losses(losses[bad[0]], levels) if bad else _of_gradients(self._model)
            place = self._save(iteration, batch)
            sentence = f"iteration {iteration}: {fault} on {_names(batch)}; {place}; {_REMEDY}"
        raise NonFiniteError(" ".join(x for x in comm.all_gather(sentence) if x))

    def _save(self, iteration: int, batch: list[dict]) -> str:
        name = f"nonfinite_iter_{iteration:07d}_rank{comm.get_rank()}.pth"
        path = os.path.join(self._output_dir, name)
        try:
            os.makedirs(self._output_dir, exist_ok=True)
            save_batch(path, self._model, batch, self._dtype)
        except (OSError, RuntimeError) as error:  # torch's writer raises the latter
            return f"the batch could not be written to {path}: {error}"
        return f"{path} has the batch and the weights before it (focal_retina.training.replay)"


@torch.no_grad()
def _faulty_levels(model: nn.Module, forward: Callable[[], object]) -> list[str]:
    """Run a batch again; return the faults of the first ``FocalRetinaLoss``, finest level first."""
    faults: list[str] = []
    for module in model.modules():
        loss, names = (getattr(module, name, None) for name in ("loss", "head_in_features"))
        if isinstance(loss, FocalRetinaLoss) and names:

            def find(loss: FocalRetinaLoss, arguments: tuple, names=names) -> None:
                faults.extend(loss.level_faults(names, *arguments))

            with loss.register_forward_pre_hook(find), EventStorage(1):
                forward()
            break
    return faults


def _of_losses(losses: dict[str, float], levels: list[str]) -> str:
    terms = [f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value)]
    return f"{' and '.join(terms)}{', from ' if levels else ''}{', '.join(levels)}"


def _of_gradients(model: nn.Module) -> str:
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    # The loop has looked at their norms, which may overflow where no element does.
    names = [name for name, gradient in gradients.items() if not gradient.norm().isfinite()]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"the losses are finite, but not the gradients of {', '.join(names[:3])}{more},"


def _names(batch: list) -> str:
    known = [x.get("file_name") if isinstance(x, dict) else None for x in batch]
    names = [str(name or f"number {i} of the batch") for i, name in enumerate(known)]
    return f"image{'s' if len(names) > 1 else ''} {', '.join(names)}"
