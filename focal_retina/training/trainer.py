"""The trainer of a run, from its settings: model, optimizer, data, checkpoints and hooks."""

import logging
import weakref
from collections.abc import Callable
from functools import partial

from detectron2.config import CfgNode
from omegaconf import DictConfig
from torch import nn

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.data.register import category_ids, class_names
from focal_retina.distributed import distribute
from focal_retina.evaluation.evaluate import evaluate, evaluate_with_tta
from focal_retina.evaluation.evaluators import check_best_metric
from focal_retina.settings.foreign_errors import weights_errors
from focal_retina.settings.load import settings_of
from focal_retina.settings.run_settings import RunSettings
from focal_retina.states import StateError
from focal_retina.training.hooks import build_hooks
from focal_retina.training.loop import TrainingLoop
from focal_retina.training.resume import restart_metrics

logger = logging.getLogger(__name__)


class FocalTrainer(TrainingLoop):
    """Trains as Detectron2's ``DefaultTrainer``, from a YAML config or a LazyConfig.

    It differs in that the processes need no GPU, in the loop (``TrainingLoop``) and the hooks
    (``build_hooks``), in that it evaluates and names images that cannot be read, and in that a run
    can be resumed exactly (see ``resume``).

    Args:
        settings: of the run, completed; or the config itself, its datasets registered.
    """

    def __init__(self, settings: RunSettings | CfgNode | DictConfig):
        if not isinstance(settings, RunSettings):
            settings = settings_of(settings)
            settings.check()
        check_best_metric(settings)
        parts = settings.parts
        model = parts.model()
        logger.info(f"Model:\n{model}")
        optimizer = parts.optimizer(model)
        data_loader = parts.train_loader()
        super().__init__(
            distribute(model, **parts.ddp()),
            data_loader,
            optimizer,
            dtype=settings.train_dtype,
            accumulation_steps=settings.accumulation_steps,
            output_dir=settings.output_dir,
        )
        self.settings, self.cfg = settings, settings.cfg
        self.scheduler = parts.lr_scheduler(optimizer)
        self.checkpointer = FocalCheckpointer(
            self.model,
            settings.output_dir,
            class_names=class_names(settings.train_datasets),
            category_ids=category_ids(settings.train_datasets),
            trainer=weakref.proxy(self),
        )
        self.results: dict = {}
        # With augmentation after training only, as in Detectron2's train_net.py: it costs much.
        evaluations = [(settings.eval_period, evaluate), (0, evaluate_with_tta)]
        evaluations = [(period, partial(self._evaluate, run)) for period, run in evaluations]
        self.register_hooks(build_hooks(self, settings, evaluations))

    def _evaluate(self, run: Callable[[RunSettings, nn.Module], dict], model: nn.Module) -> dict:
        results = run(self.settings, model)
        self.results.update(results)
        return results

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the last checkpoint of the output folder, or start from the config's weights.

        Raises:
            UserError: the weights cannot be loaded, or no checkpoint is whole.
        """
        resumes, folder = resume and self.checkpointer.has_checkpoint(), self.settings.output_dir
        with weights_errors(self.settings.key("weights"), self.settings.weights):
            self.checkpointer.resume_or_load(self.settings.weights, resume=resume)
        if resumes:
            self.start_iter = self.iter + 1
        elif resume:
            logger.warning(
                f"There is no checkpoint in {folder}: the run and its metrics start at 0."
            )
            restart_metrics(self)

    def train(self) -> dict:
        """Train to the last iteration; return the results of the last evaluation."""
        super().train(self.start_iter, self.settings.max_iter)
        return self.results

    def load_state_dict(self, state_dict: dict) -> None:
        # Detectron2's DefaultTrainer, and ours once, keep the state of the inner trainer apart.
        state = {**state_dict.get("_trainer", {}), **state_dict}
        # The config and the iteration say where the schedule is, see ``ExactResume``.
        hooks = state.get("hooks", {}).items()
        state["hooks"] = {k: v for k, v in hooks if k != "LRScheduler"}
        super().load_state_dict(state)
        limit = self.settings.max_iter
        if self.iter >= limit:
            key = self.settings.key("max_iter")
            raise StateError(f"it has {self.iter + 1} iterations behind it, and {key} is {limit}")
