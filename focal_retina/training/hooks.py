"""The hooks of ``TrainingOptions``, in their places among Detectron2's."""

from collections.abc import Callable
from functools import partial

from detectron2.engine import HookBase, hooks
from torch import nn

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.settings.options import TrainingOptions
from focal_retina.training.best_model import BestModel
from focal_retina.training.ema import ModelEMA, WeightsCheckpointer
from focal_retina.training.run_checkpointer import RunCheckpointer


def add_hooks(
    usual: list[HookBase],
    options: TrainingOptions,
    periodic: RunCheckpointer,
    evaluations: list[tuple[int, Callable[[nn.Module], dict]]],
) -> list[HookBase]:
    """Return Detectron2's hooks with those of the options added.

    The average of the weights is taken right after each step, and evaluated in their place. As in
    Detectron2 the checkpointer comes before the evaluations, and the writers come last.

    Args:
        usual: Detectron2's, without ``EvalHook``.
        periodic: of the run; not among the hooks returned, see ``resume.with_exact_resume``.
        evaluations: for each the period, 0 for after training only, and from a model to results.
    """
    checkpointer: FocalCheckpointer = periodic.checkpointer
    model, folder, names = checkpointer.model, checkpointer.save_dir, checkpointer.class_names
    ema = None
    if options.ema_decay is not None:
        ema = ModelEMA(model, options.ema_decay, folder, names)
        model = ema.model
    evaluating: list[HookBase] = [
        hooks.EvalHook(period, partial(evaluate, model)) for period, evaluate in evaluations
    ]
    if options.best_metric is not None:
        evaluating.append(
            BestModel(
                WeightsCheckpointer(model, folder, class_names=names),
                period=evaluations[0][0],
                metric=options.best_metric,
                mode=options.best_mode,
                patience=options.best_patience,
                save_final=partial(_save_final, periodic, ema),
            )
        )
    writers = [hook for hook in usual if isinstance(hook, hooks.PeriodicWriter)]
    others = [hook for hook in usual if hook not in writers]
    return [*others[:1], *([ema] if ema else []), *others[1:], *evaluating, *writers]


def _save_final(periodic: RunCheckpointer, ema: ModelEMA | None, iteration: int) -> None:
    periodic.save_final(iteration)
    if ema is not None:
        ema.save_final(iteration)
