"""The hooks of a training, and their order."""

from collections.abc import Callable, Sequence
from functools import partial

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from torch import nn

from focal_retina.settings.run_settings import RunSettings
from focal_retina.training.best_model import BestModel
from focal_retina.training.ema import ModelEMA, WeightsCheckpointer
from focal_retina.training.resume import ExactResume, RunTimer
from focal_retina.training.run_checkpointer import RunCheckpointer
from focal_retina.training.writers import resumable_writers

# From a model to its results.
Evaluation = Callable[[nn.Module], dict]


def build_hooks(
    trainer, settings: RunSettings, evaluations: Sequence[tuple[int, Evaluation]]
) -> list[HookBase]:
    """Return the hooks in the order in which they act after each step.

    The average of the weights is taken right after the step, and evaluated in their place. The
    checkpoint comes before the evaluations, so that one that dies costs no training. The writers
    come after the evaluations, whose metrics they write.

    Args:
        trainer: has ``model``, ``scheduler`` and ``checkpointer``.
        evaluations: each with its period in iterations; 0 for after training only.
    """
    checkpointer, folder = trainer.checkpointer, settings.output_dir
    evaluated = checkpointer.model
    classes = {"class_names": checkpointer.class_names, "category_ids": checkpointer.category_ids}
    ema = best = writer = None
    if settings.ema_decay is not None:
        ema = ModelEMA(evaluated, settings.ema_decay, folder, **classes)
        evaluated = ema.model
    saving = RunCheckpointer(
        checkpointer,
        settings.checkpoint_period,
        max_to_keep=settings.max_to_keep,
        minutes=settings.checkpoint_minutes,
        average=ema,
    )
    if settings.best_metric is not None:
        weights = WeightsCheckpointer(evaluated, folder, **classes)
        best = BestModel(weights, saving, settings)
    if comm.is_main_process():
        writers = resumable_writers(folder, settings.max_iter)
        writer = hooks.PeriodicWriter(writers, period=settings.log_period)
    built = [
        RunTimer(),
        ema,
        hooks.LRScheduler(scheduler=trainer.scheduler),
        settings.parts.precise_bn(trainer.model),
        saving,
        *(hooks.EvalHook(period, partial(run, evaluated)) for period, run in evaluations),
        best,
        writer,
        ExactResume(),
    ]
    return [hook for hook in built if hook is not None]
