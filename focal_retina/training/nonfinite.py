"""A loss that is not finite: the run ends before the step, with what is needed to look into it."""

import math
import os
from collections.abc import Callable
from typing import NoReturn

import torch
from detectron2.utils import comm
from torch import nn

from focal_retina.errors import TrainingError
from focal_retina.modeling.normalizer import LossNormalizer
from focal_retina.training.levels import faulty_levels
from focal_retina.training.replay import save_batch

_REMEDY = (
    "look at the objects of these images; if they are right, lower the learning rate, lengthen its "
    "warm-up, or clip the gradients (SOLVER.CLIP_GRADIENTS.ENABLED True; train.clip_gradients)"
)
# What a forward pass in training mode changes.
_CHANGING = (nn.modules.batchnorm._BatchNorm, LossNormalizer)


class NonFiniteError(TrainingError, FloatingPointError):
    """A loss or gradient became NaN or infinite; the message says where, and what to try."""


class NonFiniteWatch:
    """What a step needs so that its batch can be run again.

    Args:
        model: without the wrapper of ``DistributedDataParallel``.
        output_dir: folder of the file that keeps batch and weights.
        dtype: that the model is autocast to, or None.
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
        pieces: list[list[dict]],
        losses: list[dict[str, float]],
        forward: Callable[[list[dict]], object],
    ) -> NoReturn:
        """Raise a NonFiniteError on every process; to be called by all of them.

        The processes at fault write ``nonfinite_iter_<iteration>_rank<rank>.pth``, see ``replay``.

        Args:
            pieces: of this process's batch.
            losses: of each piece, by name; where they are finite on all processes, gradients are
                not.
            forward: lets a piece go through the model.
        """
        bad = [i for i, row in enumerate(losses) if not all(map(math.isfinite, row.values()))]
        is_loss = any(comm.all_gather(bool(bad)))
        batch = pieces[bad[0] if bad else 0] if is_loss else [x for piece in pieces for x in piece]
        # By all processes: batch norm may synchronise them.
        levels = faulty_levels(self._model, lambda: forward(batch)) if is_loss else []
        self._restore()
        sentence = None
        if bad:
            sentence = _of_losses(losses[bad[0]], levels)
        elif not is_loss:
            sentence = _of_gradients(self._model)
        if sentence:
            place = self._save(iteration, batch)
            sentence = f"iteration {iteration}: {sentence} on {_names(batch)}; {place}; {_REMEDY}"
        raise NonFiniteError(" ".join(x for x in comm.all_gather(sentence) if x))

    def _restore(self) -> None:
        for kept, buffer in zip(self._kept, self._buffers, strict=True):
            buffer.copy_(kept)

    def _save(self, iteration: int, batch: list[dict]) -> str:
        name = f"nonfinite_iter_{iteration:07d}_rank{comm.get_rank()}.pth"
        path = os.path.join(self._output_dir, name)
        try:
            os.makedirs(self._output_dir, exist_ok=True)
            save_batch(path, self._model, batch, self._dtype)
        except (OSError, RuntimeError) as error:  # torch's writer raises the latter
            return f"the batch could not be written to {path}: {error}"
        return f"{path} has the batch and the weights before it (focal_retina.training.replay)"


def _of_losses(losses: dict[str, float], levels: list[str]) -> str:
    terms = [f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value)]
    return f"{' and '.join(terms)}{', from ' if levels else ''}{', '.join(levels)}"


def _of_gradients(model: nn.Module) -> str:
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    # As the loop has looked at them: the norm.
    names = [name for name, gradient in gradients.items() if not gradient.norm().isfinite()]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"the losses are finite, but not the gradients of {', '.join(names[:3])}{more},"


def _names(batch: list) -> str:
    known = [x.get("file_name") if isinstance(x, dict) else None for x in batch]
    names = [str(name or f"number {i} of the batch") for i, name in enumerate(known)]
    return f"image{'s' if len(names) > 1 else ''} {', '.join(names)}"
