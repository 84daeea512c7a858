"""The training loop: Detectron2's steps in every precision, with accumulated gradients.

It ends a run whose losses or gradients are not finite.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import torch
from detectron2.engine import SimpleTrainer, TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from focal_retina.detectron2_internals import close_batches, gradient_norms, next_batch
from focal_retina.distributed import lost_process, without_ddp
from focal_retina.errors import SharedError, TrainingError, TrainingStopped, UserError, shown
from focal_retina.states import conform, state_errors
from focal_retina.training.nonfinite import NonFiniteWatch
from focal_retina.training.optimizer_state import describe, fitted

# Gradients that overflow float16 even when scaled by less are not finite at all.
_LEAST_SCALE = 2.0**-16

logger = logging.getLogger(__name__)


def _is_unexpected(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, RuntimeError) and lost_process(error):
        return False
    return not isinstance(error, TrainingStopped | TrainingError | UserError)


# Detectron2's loop logs every exception with its traceback, which is for bugs.
logging.getLogger("detectron2.engine.train_loop").addFilter(_is_unexpected)


class TrainingLoop(SimpleTrainer):
    """Detectron2's ``SimpleTrainer``, and its ``AMPTrainer`` for both types and all devices.

    Without options it gives the weights of ``SimpleTrainer``, to the bit. Losses or gradients that
    are not finite end the run on every process, before the optimizer's step (see ``nonfinite``),
    so losses are never written later (``async_write_metrics``). Gradients in float16 do not: such a
    step is skipped, counted and logged. A hook ends the run by raising ``TrainingStopped``.

    Args:
        model, data_loader, optimizer: as of ``SimpleTrainer``.
        dtype: of autocast; None for no autocast. With float16 the loss is scaled.
        accumulation_steps: micro-batches of each batch, see ``as_one_batch``; >= 1.
        output_dir: folder for the batch whose losses or gradients are not finite.

    Attributes:
        wish: gives what this process tells the others in each step, in one message with its losses.
        wishes: what all have told in this step, by rank.

    Raises:
        UserError: the loss of a batch is no sum over micro-batches of it; or, in the first step of
            several processes, no loss reaches a parameter.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader,
        optimizer: torch.optim.Optimizer,
        *,
        dtype: torch.dtype | None = None,
        accumulation_steps: int = 1,
        output_dir: str = "output",
    ):
        super().__init__(model, data_loader, optimizer)
        self._plain = without_ddp(model)
        if accumulation_steps > 1 and getattr(self._plain, "divides_by_foreground", False):
            self._plain.check_micro_batches()
        self.accumulation_steps, self.dtype = accumulation_steps, dtype
        self.wish: Callable[[], object] = lambda: None
        self.wishes: list = []
        self._solver = describe(optimizer, self._plain)
        self._device_type = next(model.parameters()).device.type
        self._watch = NonFiniteWatch(self._plain, output_dir, dtype)
        is_scaled = dtype == torch.float16
        self.grad_scaler = torch.amp.GradScaler(self._device_type, enabled=is_scaled)
        self._checks_gradients, self.skipped_steps = not is_scaled, 0
        if is_scaled and self._device_type == "cpu":
            logger.warning(
                "Most CPUs multiply float16 ten times slower than float32, all but those with "
                "avx512_fp16 or amx_fp16: set SOLVER.AMP.DTYPE (train.amp.dtype) bfloat16"
            )

    def train(self, start_iter: int, max_iter: int) -> None:
        try:
            super().train(start_iter, max_iter)
        except TrainingStopped as reason:
            logger.info(str(reason))
        finally:
            # Python's collector would first end the queue that tells its workers of the end: each
            # would be waited for in vain.
            close_batches(self)

    def run_step(self) -> None:
        """Do one iteration; raise a NonFiniteError on every process."""
        start = time.perf_counter()
        micro_batches = split_batch(next_batch(self), self.accumulation_steps)
        data_time = time.perf_counter() - start
        self._watch.remember()
        losses, weights, correction = self._backward(micro_batches)
        if self.iter == self.start_iter and isinstance(self.model, DistributedDataParallel):
            _check_all_used(self.model)
        self.after_backward()
        rows, correction, largest = self._to_host(losses, correction)
        means = correction * sum(row * weight for row, weight in zip(rows, weights, strict=True))
        means = dict(zip(losses[0], means.tolist(), strict=True))
        told = comm.all_gather(((means, data_time, largest), self.wish()))
        gathered, self.wishes = map(list, zip(*told, strict=True))
        if not all(math.isfinite(x) for means, _, x in gathered for x in (*means.values(), x)):
            named = [dict(zip(losses[0], row, strict=True)) for row in rows.tolist()]
            self._watch.end(self.iter, micro_batches, named, self._forward)
        _write(gathered, data_time)
        self._step()

    def _backward(
        self, micro_batches: list[list]
    ) -> tuple[list[dict[str, Tensor]], list[float], Tensor | None]:
        """Compute the gradients; return the losses of each micro-batch, weights and correction."""
        losses: list[dict[str, Tensor]] = []
        correction = None
        with as_one_batch(self._plain, micro_batches) as (weights, correction_of_all):
            for micro_batch, weight in zip(micro_batches, weights, strict=True):
                is_last = len(losses) == len(micro_batches) - 1
                joins = is_last or self.model is self._plain
                with contextlib.nullcontext() if joins else self.model.no_sync():
                    losses.append(self._forward(micro_batch))
                    total = sum(losses[-1].values()) * weight
                    if len(losses) == 1:
                        self.optimizer.zero_grad()
                    if is_last and (correction := correction_of_all()) is not None:
                        # Before gradients meet those of other processes: their factor is another.
                        for gradient in self._gradients():
                            gradient.mul_(correction.to(gradient.dtype))
                        total = total * correction.to(total.dtype)
                    self.grad_scaler.scale(total).backward()
        return losses, weights, correction

    def _forward(self, micro_batch: list) -> dict[str, Tensor]:
        with torch.autocast(self._device_type, self.dtype, enabled=self.dtype is not None):
            losses = self.model(micro_batch)
        return {"total_loss": losses} if isinstance(losses, Tensor) else losses

    def _gradients(self) -> list[Tensor]:
        groups = self.optimizer.param_groups
        return [p.grad for group in groups for p in group["params"] if p.grad is not None]

    def _to_host(
        self, losses: list[dict[str, Tensor]], correction: Tensor | None
    ) -> tuple[np.ndarray, float, float]:
        """Return a row of losses per micro-batch, the correction, and the largest gradient norm.

        They come by one transfer; Detectron2 makes one for each loss.
        """
        rows = [[x.detach().float().reshape(()) for x in by_name.values()] for by_name in losses]
        table = torch.stack([torch.stack(row) for row in rows])
        # Not of gradients in float16, which may overflow: the scaler checks them.
        gradients = self._gradients() if self._checks_gradients else []
        # Norms take one pass; the largest absolute value takes 15 times as long on a CPU.
        largest = gradient_norms(gradients).max() if gradients else table.new_zeros(())
        correction = table.new_ones(()) if correction is None else correction
        numbers = [table.flatten(), correction.to(table).view(1), largest.to(table).view(1)]
        *on_host, factor, norm = torch.cat(numbers).tolist()
        return np.reshape(on_host, table.shape), factor, norm

    def _step(self) -> None:
        scale = self.grad_scaler.get_scale()
        self.grad_scaler.step(self.optimizer)  # divides the gradients by the scale before clipping
        self.grad_scaler.update()
        if not self.grad_scaler.is_enabled():
            return
        if (smaller := self.grad_scaler.get_scale()) < scale:
            self.skipped_steps += 1
            self._checks_gradients = smaller < _LEAST_SCALE
            logger.warning(
                f"iteration {self.iter}: the gradients overflowed float16 and the step was "
                f"skipped, number {self.skipped_steps} of this run; the loss is now scaled by "
                f"{smaller:g}"
            )
        get_event_storage().put_scalar("skipped_steps", self.skipped_steps, smoothing_hint=False)

    def state_dict(self) -> dict:
        state = super().state_dict()
        state["solver"] = self._solver
        if self.grad_scaler.is_enabled():
            state["grad_scaler"] = self.grad_scaler.state_dict()
            state["skipped_steps"] = self.skipped_steps
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        state = {**state_dict, "iteration": conform(0, state_dict["iteration"], "iteration")}
        for name, hook in state.pop("hooks", {}).items():
            with state_errors(name):
                TrainerBase.load_state_dict(self, {**state, "hooks": {name: hook}})
        with state_errors("the optimizer"):
            if "solver" in state:  # not in an older checkpoint
                then, now = state["solver"], self._solver
                state["optimizer"] = fitted(self.optimizer, state["optimizer"], then, now)
            super().load_state_dict(state)
        # A run in another precision has left none.
        if self.grad_scaler.is_enabled() and "grad_scaler" in state:
            with state_errors("the gradients' scale"):
                scaler = conform(self.grad_scaler.state_dict(), state["grad_scaler"])
                self.grad_scaler.load_state_dict(scaler)
                self.skipped_steps = conform(0, state.get("skipped_steps", 0))


def _check_all_used(model: DistributedDataParallel) -> None:
    """Raise a SharedError that names the parameters without gradient, which end the next step."""
    parameters = model.module.named_parameters()
    unused = [name for name, p in parameters if p.requires_grad and p.grad is None]
    unused = max(comm.all_gather(unused), key=len)
    if unused and not model.find_unused_parameters:
        raise SharedError(
            f"no loss reaches {len(unused)} parameters, {shown(unused)}, which several processes "
            "cannot train: leave their part out of the model (MODEL.FPN.IN_FEATURES), or freeze "
            "them; a LazyConfig may set train.ddp.find_unused_parameters=True"
        )


def _write(gathered: list[tuple[dict, float, float]], data_time: float) -> None:
    """Write what Detectron2 writes: means over processes, but the longest time for data."""
    storage = get_event_storage()
    storage.put_scalar("rank_data_time", data_time)
    if not comm.is_main_process():
        return
    losses, times, _ = zip(*gathered, strict=True)
    storage.put_scalar("data_time", max(times))
    means = {name: float(np.mean([x[name] for x in losses])) for name in losses[0]}
    storage.put_scalar("total_loss", sum(means.values()))
    if len(means) > 1:
        storage.put_scalars(**means)


def split_batch(batch: list, steps: int) -> list[list]:
    """Return the batch as ``steps`` micro-batches of nearly equal length, in order, none empty."""
    if steps == 1:
        return [batch]
    count = min(steps, len(batch))
    bounds = [len(batch) * i // count for i in range(count + 1)]
    return [batch[start:end] for start, end in pairwise(bounds)]


@contextlib.contextmanager
def as_one_batch(
    model: nn.Module, micro_batches: list[list]
) -> Iterator[tuple[list[float], Callable[[], Tensor | None]]]:
    """Inside this context, each call of the model is for one micro-batch of a larger batch.

    The context gives a weight for the losses of each micro-batch, and a function to call after the
    last one: it returns what all of them are to be multiplied by, None for 1. So the losses of a
    ``FocalRetinaNet`` become those of the batch, divided by all its foreground. Those of any other
    model become their mean over images.
    """
    if len(micro_batches) == 1:
        yield [1.0], lambda: None
    elif getattr(model, "divides_by_foreground", False):
        with model.micro_batches(micro_batches) as correction:
            yield [1.0] * len(micro_batches), correction
    else:
        lengths = [len(micro_batch) for micro_batch in micro_batches]
        yield [length / sum(lengths) for length in lengths], lambda: None
