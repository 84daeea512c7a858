"""A resumed run is the unbroken one, bit by bit: data, random numbers, metrics, evaluations."""

import logging
from itertools import dropwhile

import torch
from detectron2.engine import HookBase, hooks
from detectron2.solver import LRMultiplier
from detectron2.utils import comm

from focal_retina.data.seeding import seed_all
from focal_retina.detectron2_internals import hooks_of, precise_bn_loader, writers_of
from focal_retina.errors import require
from focal_retina.states import conform
from focal_retina.training.run_checkpointer import RunCheckpointer

logger = logging.getLogger(__name__)

# Values of each metric that go into a checkpoint; the writers smooth over 20.
_TAIL = 100
# Of a loader, for each iteration: precise batch norm takes hundreds after an evaluation.
_MOST_BATCHES = 1000
# Iterations whose times ``IterationTimer`` leaves out.
_WARM_UP = 3


class ExactResume(HookBase):
    """Save and restore what Detectron2's trainer does not; the last hook of all processes.

    - The position of the data loaders. One without ``state_dict`` starts anew, with a warning.
    - The random generators: seeded before each step from the run's seed, the iteration and the
      process, so that neither what was drawn before nor an evaluation changes anything.
    - The metrics that the writers smooth over, and the writers.
    - What the hooks after the checkpoint do in its iteration, evaluations for example: they do it
      when the run resumes.
    """

    def __init__(self):
        self.seed = comm.shared_random_seed()
        self._state = None

    def before_train(self) -> None:
        trainer, state = self.trainer, self._state
        _take_rates_of_the_config(trainer)
        if state is None:
            if trainer.start_iter > 0:
                logger.warning(
                    "The checkpoint has no position in the data: the resumed run starts the data "
                    "and the metrics anew. It was not written by this program, or by an older one."
                )
            return
        self._state = None
        for name, (hint, values) in state["metrics"].items():
            for value, iteration in values:
                trainer.storage.put_scalar(name, value, smoothing_hint=hint, cur_iter=iteration)
        # A longer or shorter run has no unbroken one to equal: it keeps what was written.
        is_same_run = state["max_iter"] == trainer.max_iter
        kept = None if is_same_run else trainer.start_iter
        for name, writer in _stateful_writers(trainer).items():
            if name in state["writers"]:
                writer.load_state_dict(state["writers"][name], kept)
        if is_same_run:
            self._finish_the_iteration()

    def before_step(self) -> None:
        torch.cuda.manual_seed_all(seed_all(self.seed, self.trainer.iter, comm.get_rank()))

    def state_dict(self) -> dict:
        trainer, hints = self.trainer, self.trainer.storage.smoothing_hints()
        histories = trainer.storage.histories().items()
        return {
            "seed": self.seed,
            "max_iter": trainer.max_iter,
            "loaders": _states(_loaders(trainer)),
            # (name, smoothing hint, [(value, iteration), ...])
            "metrics": [(name, hints[name], x.values()[-_TAIL:]) for name, x in histories],
            "writers": _states(_stateful_writers(trainer)),
        }

    def load_state_dict(self, state: dict) -> None:
        trainer = self.trainer
        self.seed = conform(self.seed, state["seed"], "seed")
        writers = conform(_states(_stateful_writers(trainer)), state["writers"])
        for saved in writers.values():
            saved["last_write"] = min(saved["last_write"], trainer.iter)
        metrics = {
            str(name): (bool(hint), [(float(x), int(i)) for x, i in values[-_TAIL:]])
            for name, hint, values in state["metrics"]
        }
        max_iter = conform(0, state["max_iter"], "max_iter")
        self._state = {"max_iter": max_iter, "metrics": metrics, "writers": writers}
        loaders = _loaders(trainer)
        for name in state["loaders"].keys() & loaders.keys():
            loaders[name].load_state_dict(state["loaders"][name])
            # The batches before it are counted one by one.
            limit = _MOST_BATCHES * (trainer.iter + 1)
            position = getattr(loaders[name], "position", 0)
            require(position <= limit, "its position", position, f"be at most {limit}")
        if "train" not in state["loaders"] or "train" not in loaders:
            logger.warning(
                "The data loader has no state_dict and load_state_dict, or had none: the resumed "
                "run starts the data anew. focal_retina.data.loader.build_train_loader has them."
            )

    def _finish_the_iteration(self) -> None:
        trainer = self.trainer
        # Each iteration sets its number. Where none is left, Detectron2's loop adds 1 to this one.
        trainer.iter = trainer.storage.iter = trainer.start_iter - 1
        rest = dropwhile(lambda hook: not isinstance(hook, RunCheckpointer), hooks_of(trainer))
        next(rest).finish_step()
        for hook in rest:
            hook.after_step()


class RunTimer(hooks.IterationTimer):
    """Leave the times of the run's first iterations out, and not those after each resume."""

    def before_train(self) -> None:
        super().__init__(max(0, _WARM_UP - self.trainer.start_iter))
        super().before_train()


def restart_metrics(trainer) -> None:
    """Let the metrics in the output folder begin anew, as those of a run that has just begun."""
    for writer in _stateful_writers(trainer).values():
        writer.restart()


def _take_rates_of_the_config(trainer) -> None:
    """Set the learning rates of the next iteration by the schedule and the rates of the config."""
    for hook in hooks_of(trainer):
        scheduler = getattr(hook, "scheduler", None)
        if trainer.start_iter > 0 and isinstance(scheduler, LRMultiplier):
            groups = scheduler.optimizer.param_groups
            scheduler.last_epoch = trainer.start_iter
            scheduler.base_lrs = [group["initial_lr"] for group in groups]
            for group, rate in zip(groups, scheduler.get_lr(), strict=True):
                group["lr"] = rate


def _states(parts: dict) -> dict:
    return {name: part.state_dict() for name, part in parts.items()}


def _loaders(trainer) -> dict:
    """The loaders of the training and of precise batch norm that know their position."""
    found = {"train": trainer.data_loader}
    for hook in hooks_of(trainer):
        if isinstance(hook, hooks.PreciseBN):
            found["precise_bn"] = precise_bn_loader(hook)
    return {name: loader for name, loader in found.items() if hasattr(loader, "load_state_dict")}


def _stateful_writers(trainer) -> dict:
    periodic = [hook for hook in hooks_of(trainer) if isinstance(hook, hooks.PeriodicWriter)]
    writers = [writer for hook in periodic for writer in writers_of(hook)]
    return {type(w).__name__: w for w in writers if hasattr(w, "load_state_dict")}
