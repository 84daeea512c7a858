"""Keep the best weights by a metric, and stop after evaluations without gain."""

import logging
import math
import os

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.errors import TrainingError, TrainingStopped, did_you_mean

logger = logging.getLogger(__name__)


class UnknownMetricError(TrainingError, ValueError):
    """The evaluation has no metric of the name that the config gives."""


class BestModel(HookBase):
    """Write ``model_best.pth`` at every evaluation with a better metric than all before.

    Detectron2's ``BestCheckpointer`` forgets its best on a resume, saves all of the run's state and
    makes ``--resume`` go on from it. Here the file has weights, "iteration", "metric" and "value".
    To be listed after ``EvalHook``, on every process. A checkpoint is written before the evaluation
    of its iteration; a resumed run learns from the file that it was the best.

    Args:
        checkpointer: of the evaluated weights.
        period: iterations between evaluations, as of ``EvalHook``.
        metric: as in metrics.json, for instance "bbox/AP50" or "val_total_loss".
        mode: "max" or "min", what is better.
        patience: stop after so many evaluations in a row without gain; None: never.
        save_final: writes the final checkpoint after the given iteration, when the run stops.
    """

    def __init__(
        self,
        checkpointer: FocalCheckpointer,
        *,
        period: int,
        metric: str,
        mode: str = "max",
        patience: int | None = None,
        save_final=None,
    ):
        self._checkpointer, self._save_final = checkpointer, save_final
        self._period, self._metric, self._mode, self._patience = period, metric, mode, patience
        self._best: float | None = None
        self._best_iter: int | None = None
        self._without_gain = 0
        self._last_evaluated_iter = -1

    def before_train(self) -> None:
        if self.trainer.start_iter > 0:
            self._restore_best(comm.all_gather(self._read_file())[0])
        self._stop_without_gain("the run was stopped early: ")

    def after_step(self) -> None:
        next_iter = self.trainer.iter + 1
        if next_iter == self.trainer.max_iter or self._period < 1 or next_iter % self._period:
            return
        self._update_best(self.trainer.iter)
        if self._patience_is_over():
            self._save_final(self.trainer.iter)
        self._stop_without_gain(f"stopping early after iteration {self.trainer.iter}: ")

    def after_train(self) -> None:
        # As ``EvalHook``, which has just evaluated.
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self._update_best(self.trainer.max_iter - 1)

    def _read_file(self) -> tuple[str, int, float] | None:
        path = os.path.join(self._checkpointer.save_dir, "model_best.pth")
        if not comm.is_main_process() or not os.path.isfile(path):
            return None
        content = torch.load(path, map_location="cpu", weights_only=True)
        return content["metric"], content["iteration"], content["value"]

    def _restore_best(self, best: tuple[str, int, float] | None) -> None:
        """Count the best evaluation, if it was made after the checkpoint of its iteration."""
        metric, iteration, value = best or (None, -1, None)
        if (
            metric == self._metric
            and self._last_evaluated_iter < iteration < self.trainer.start_iter
        ):
            self._best, self._best_iter, self._without_gain = value, iteration, 0
            self._last_evaluated_iter = iteration

    def _update_best(self, iteration: int) -> None:
        if iteration == self._last_evaluated_iter:  # a resumed run does an evaluation again
            return
        self._last_evaluated_iter = iteration
        value = self._value()
        sign = 1 if self._mode == "max" else -1
        is_first = self._best is None
        if not math.isfinite(value) or not (is_first or sign * value > sign * self._best):
            self._without_gain += 1
            return
        self._best, self._best_iter, self._without_gain = value, iteration, 0
        try:
            self._checkpointer.save(
                "model_best", iteration=iteration, metric=self._metric, value=value
            )
        except OSError as error:
            logger.error(
                f"model_best.pth of iteration {iteration} cannot be written ({error.strerror}); "
                "the one before it stays, and the training goes on"
            )

    def _value(self) -> float:
        """Return what the main process has just evaluated, on every process."""
        latest = {name: value for name, (value, _) in self.trainer.storage.latest().items()}
        value, names = comm.all_gather((latest.get(self._metric), sorted(latest)))[0]
        if value is None:
            names = [x for x in names if "/" in x or x.startswith("val_")]
            raise UnknownMetricError(
                f"TEST.BEST.METRIC (train.best.metric): the evaluation has no {self._metric!r}"
                f"{did_you_mean(self._metric, names)}; it has {', '.join(names) or 'none'}"
            )
        return value

    def _patience_is_over(self) -> bool:
        return self._patience is not None and self._without_gain >= self._patience

    def _stop_without_gain(self, prefix: str) -> None:
        if not self._patience_is_over():
            return
        gain = f"has been no number for {self._without_gain} evaluations"
        if self._best is not None:
            gain = (
                f"has not been better than {self._best} of iteration {self._best_iter}, whose "
                f"weights model_best.pth has, for {self._without_gain} evaluations"
            )
        raise TrainingStopped(
            f"{prefix}{self._metric} {gain}; a larger TEST.BEST.PATIENCE (train.best.patience) "
            "goes on"
        )

    def state_dict(self) -> dict:
        return {
            "best": self._best,
            "best_iter": self._best_iter,
            "without_gain": self._without_gain,
            "judged_iter": self._last_evaluated_iter,
        }

    def load_state_dict(self, state_dict: dict) -> None:
        self._best = state_dict["best"]
        self._best_iter = state_dict["best_iter"]
        self._without_gain = state_dict["without_gain"]
        self._last_evaluated_iter = state_dict["judged_iter"]
