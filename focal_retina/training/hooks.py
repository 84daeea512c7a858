"""The hooks of a training, and their order."""

from collections.abc import Callable, Sequence
from functools import partial

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from torch import nn

from focal_retina.settings.run_settings import RunSettings
from focal_retina.training.best_model import BestModel
from focal_retina.training.ema import ModelEMA, WeightsCheckpointer
from focal_retina.training.resume import ExactResume
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
    checkpointer = trainer.checkpointer
    ema = _ema(checkpointer, settings)
    evaluated = checkpointer.model if ema is None else ema.model
    run_checkpointer = RunCheckpointer(
        checkpointer, settings.checkpoint_period, max_to_keep=settings.max_to_keep
    )
    built = [
        hooks.IterationTimer(),
        ema,
        hooks.LRScheduler(scheduler=trainer.scheduler),
        settings.parts.precise_bn(trainer.model),
        run_checkpointer,
        *(hooks.EvalHook(period, partial(run, evaluated)) for period, run in evaluations),
        _best_model(checkpointer, settings, evaluated, run_checkpointer, ema),
        _writer(settings),
        ExactResume(),
    ]
    return [hook for hook in built if hook is not None]


def _ema(checkpointer, settings: RunSettings) -> ModelEMA | None:
    if settings.ema_decay is None:
        return None
    names = checkpointer.class_names
    return ModelEMA(checkpointer.model, settings.ema_decay, settings.output_dir, names)


def _best_model(checkpointer, settings: RunSettings, model, run_checkpointer, ema):
    if settings.best_metric is None:
        return None

    def save_final(iteration: int) -> None:
        run_checkpointer.save_final(iteration)
        if ema is not None:
            ema.save_final(iteration)

    return BestModel(
        WeightsCheckpointer(model, settings.output_dir, class_names=checkpointer.class_names),
        period=settings.eval_period,
        metric=settings.best_metric,
        mode=settings.best_mode,
        patience=settings.best_patience,
        save_final=save_final,
    )


def _writer(settings: RunSettings) -> hooks.PeriodicWriter | None:
    if not comm.is_main_process():
        return None
    writers = resumable_writers(settings.output_dir, settings.max_iter)
    return hooks.PeriodicWriter(writers, period=settings.log_period)
