"""Keep the best weights by a metric, and stop after evaluations without gain."""

import logging
import math
import operator
import os
from dataclasses import asdict, dataclass

from detectron2.engine import HookBase
from detectron2.utils import comm

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.checkpoint.reading import read_checkpoint
from focal_retina.errors import TrainingError, TrainingStopped, UserError, did_you_mean
from focal_retina.run_files import refuse
from focal_retina.settings.run_settings import RunSettings
from focal_retina.states import conform, state_errors
from focal_retina.training.run_checkpointer import RunCheckpointer

logger = logging.getLogger(__name__)


@dataclass
class _Record:
    """What was found so far; the names are those in checkpoints."""

    best: float | None = None
    best_iter: int | None = None
    without_gain: int = 0  # evaluations since the best
    judged_iter: int = -1  # the last evaluated iteration


class BestModel(HookBase):
    """Write ``model_best.pth`` at every evaluation with a better metric than all before.

    The file has weights, "iteration", "metric" and "value", and ``--resume`` never goes on from it.
    A checkpoint is written before the evaluation of its iteration: a resumed run learns from the
    file that it was the best. To be listed after ``EvalHook``, on every process.

    Args:
        checkpointer: of the evaluated weights.
        saving: writes the final checkpoint when the run stops.
        settings: ``eval_period``, ``best_metric``, ``best_mode`` and ``best_patience`` count.
    """

    def __init__(
        self,
        checkpointer: FocalCheckpointer,
        saving: RunCheckpointer,
        settings: RunSettings,
    ):
        self._checkpointer, self._saving = checkpointer, saving
        self._period, self._patience = settings.eval_period, settings.best_patience
        self._metric, self._mode = settings.best_metric, settings.best_mode
        self._record = _Record()

    def before_train(self) -> None:
        if self.trainer.start_iter > 0:
            self._restore_best()
        self._stop_without_gain("the run was stopped early: ")

    def after_step(self) -> None:
        next_iter = self.trainer.iter + 1
        if next_iter == self.trainer.max_iter or self._period < 1 or next_iter % self._period:
            return
        self._update_best(self.trainer.iter)
        if self._patience_is_over():
            self._saving.save_final(self.trainer.iter)
        self._stop_without_gain(f"stopping early after iteration {self.trainer.iter}: ")

    def after_train(self) -> None:
        # As ``EvalHook``, which has just evaluated.
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self._update_best(self.trainer.max_iter - 1)

    def _restore_best(self) -> None:
        """Count the best evaluation, if it was made after the checkpoint of its iteration."""
        path, best, reason = os.path.join(self._checkpointer.save_dir, "model_best.pth"), None, None
        if comm.is_main_process() and os.path.isfile(path):
            try:
                own = {"metric": "", "iteration": 0, "value": 0.0}
                with state_errors("the best"):
                    saved = conform(own, read_checkpoint(path), "content")
                    best = [saved[name] for name in own]
            except UserError as error:
                reason = str(error)
        best, reason = comm.all_gather((best, reason))[0]
        if reason:
            logger.warning(f"{path}: {reason}. The next evaluation writes it anew.")
            self._record = _Record(judged_iter=self._record.judged_iter)
        metric, iteration, value = best or (None, -1, None)
        is_later = self._record.judged_iter < iteration < self.trainer.start_iter
        if metric == self._metric and is_later:
            self._record = _Record(value, iteration, 0, iteration)

    def _update_best(self, iteration: int) -> None:
        if iteration == self._record.judged_iter:  # a resumed run does an evaluation again
            return
        self._record.judged_iter = iteration
        value, best = self._value(), self._record.best
        is_better = operator.gt if self._mode == "max" else operator.lt
        if not math.isfinite(value) or (best is not None and not is_better(value, best)):
            self._record.without_gain += 1
            return
        self._record = _Record(value, iteration, 0, iteration)
        content = {"iteration": iteration, "metric": self._metric, "value": value}
        try:
            self._checkpointer.save("model_best", **content)
        except OSError as error:
            file = f"model_best.pth of iteration {iteration}"
            refuse(file, error, "the one before it stays, and the training goes on")

    def _value(self) -> float:
        """Return what the main process has just evaluated, on every process; NaN for no number."""
        storage, metric = self.trainer.storage, self._metric
        latest = {x: value for x, (value, when) in storage.latest().items() if when == storage.iter}
        value, names = comm.all_gather((latest.get(metric), sorted(latest)))[0]
        # Without detections Detectron2 has no AP of a class; augmentation comes after training.
        task, _, is_of_class = metric.partition("/AP-")
        if value is None and ((is_of_class and f"{task}/AP" in names) or "_TTA/" in metric):
            return math.nan
        if value is None:
            names = [x for x in names if "/" in x or x.startswith("val_")]
            raise TrainingError(
                f"TEST.BEST.METRIC (train.best.metric): the evaluation has no {self._metric!r}"
                f"{did_you_mean(self._metric, names)}; it has {', '.join(names) or 'none'}"
            )
        return value

    def _patience_is_over(self) -> bool:
        return self._patience is not None and self._record.without_gain >= self._patience

    def _stop_without_gain(self, prefix: str) -> None:
        if not self._patience_is_over():
            return
        record, gain = self._record, "been a number"
        if record.best is not None:
            gain = (
                f"been better than {record.best} of iteration {record.best_iter}, whose weights "
                "model_best.pth has,"
            )
        raise TrainingStopped(
            f"{prefix}{self._metric} has not {gain} for {record.without_gain} evaluations; a "
            "larger TEST.BEST.PATIENCE (train.best.patience) goes on"
        )

    def state_dict(self) -> dict:
        return asdict(self._record)

    def load_state_dict(self, state_dict: dict) -> None:
        self._record = _Record(**conform(asdict(_Record()), state_dict))
