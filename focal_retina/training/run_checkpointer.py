"""When checkpoints of a run are written, what happens if they cannot be, and which are kept."""

import logging
import os
import re
import signal
import time
from collections.abc import Callable
from functools import partial

from detectron2.engine import hooks
from detectron2.utils import comm

from focal_retina.files import unfinished_files
from focal_retina.run_files import accept, refuse
from focal_retina.states import conform
from focal_retina.training.ema import ModelEMA
from focal_retina.training.interruption import interruption

logger = logging.getLogger(__name__)

# Exit status of a run whose result is not on the disk.
_UNSAVED = 2
_INTERIM = "model_interim"


class RunCheckpointer(hooks.PeriodicCheckpointer):
    """Detectron2's ``PeriodicCheckpointer``, with a ``FocalCheckpointer``, for runs that may die.

    Each process must have it. If a checkpoint on the way cannot be written, the log says so and the
    training goes on; if it is the last one, the run ends with status 2. Of the periodic
    checkpoints, the ``max_to_keep`` newest stay; the best and the final one are never removed.

    Between them, when the last one is ``minutes`` old or a signal ends the run, it writes
    ``model_interim.pth``, which the next checkpoint removes. The clock of the main process and the
    signals of any process count for all.

    Args:
        minutes: > 0; None for checkpoints by iterations only.
        average: whose weights are saved beside the final checkpoint.
    """

    def __init__(
        self,
        checkpointer,
        period: int,
        *,
        max_to_keep: int | None = None,
        minutes: float | None = None,
        average: ModelEMA | None = None,
    ):
        super().__init__(checkpointer, period, max_to_keep=max_to_keep)
        self._minutes, self._average = minutes, average
        self._status: int | None = None  # with which the run ends here

    def before_train(self) -> None:
        super().before_train()
        self._status, self._tried_at = None, time.monotonic()
        self.trainer.wish = self._wish
        if self.checkpointer.save_to_disk:
            for path in unfinished_files(self.checkpointer.save_dir):
                logger.info(f"Removing {path}, which a killed run has left.")
                path.unlink()

    def before_step(self) -> None:
        interruption.is_saved = False

    def after_step(self) -> None:
        iteration = self.trainer.iter
        number, is_late = self._wishes()
        if (iteration + 1) % self.period == 0:
            name = f"{self.file_prefix}_{iteration:07d}"
            self.recent_checkpoints.append(f"{name}.pth")
            if not self._save(name, iteration):
                self.recent_checkpoints.pop()
        elif (number or is_late) and iteration + 1 < self.trainer.max_iter:
            self._save(_INTERIM, iteration)
        self.finish_step()
        if number:
            name = signal.Signals(number).name
            logger.info(f"{name} has ended the run after iteration {iteration}.")
            self._end(128 + number)

    def _wish(self) -> tuple[int, bool]:
        """Return the signal that this process has, or 0, and whether its clock asks to save."""
        age = time.monotonic() - self._tried_at
        return interruption.signal or 0, self._minutes is not None and age >= 60 * self._minutes

    def _wishes(self) -> tuple[int, bool]:
        """Return the signal that ends the run, or 0, and whether a checkpoint is due by time.

        They came with the losses; after the last step no others come that a signal can wait for.
        """
        is_last = self.trainer.iter + 1 >= self.trainer.max_iter
        wishes = comm.all_gather(self._wish()) if is_last else self.trainer.wishes
        return max(number for number, _ in wishes), wishes[0][1]

    def finish_step(self) -> None:
        """Do what follows the periodic checkpoint; a resumed run does it for one that died."""
        while self.max_to_keep and len(self.recent_checkpoints) > self.max_to_keep:
            self._remove(self.recent_checkpoints.pop(0))
        if self.trainer.iter >= self.trainer.max_iter - 1:
            self.save_final(self.trainer.iter)

    def save_final(self, iteration: int) -> None:
        """Save the final checkpoint after an iteration; raise SystemExit if that is impossible."""
        saved = [self._save(f"{self.file_prefix}_final", iteration)]
        if self._average is not None:
            write = partial(self._average.save_final, iteration)
            saved.append(self._try(f"{self.file_prefix}_final_ema", write))
        if not all(saved):
            self._end(_UNSAVED)

    def after_train(self) -> None:
        # Again after the training loop: no evaluation of what could not be saved.
        if self._status is not None:
            raise SystemExit(self._status)

    def _end(self, status: int) -> None:
        """End the run on all processes; the others must not stop the main one while it ends."""
        self._status, interruption.is_ending = status, True
        raise SystemExit(status)

    def state_dict(self) -> dict:
        return {"recent_checkpoints": self.recent_checkpoints.copy()}

    def load_state_dict(self, state: dict) -> None:
        # They will be removed: of what else a file may name, nothing is.
        ours = re.compile(re.escape(self.file_prefix) + r"_[0-9]{7,}\.pth")
        names = conform(self.state_dict(), state)["recent_checkpoints"]
        self.recent_checkpoints = [x for x in names if isinstance(x, str) and ours.fullmatch(x)]

    def _save(self, name: str, iteration: int) -> bool:
        """Save in all processes; return whether the main one could write."""
        write = partial(self.checkpointer.save_run, name, iteration=iteration)
        interruption.is_saved = is_saved = self._try(name, write)
        self._tried_at = time.monotonic()
        if is_saved and name != _INTERIM:
            self._remove(f"{_INTERIM}.pth")
        return is_saved

    def _try(self, name: str, write: Callable[[], None]) -> bool:
        """Write a checkpoint; return whether the main process could."""
        file, failure = f"checkpoint {os.path.join(self.checkpointer.save_dir, name)}.pth", None
        try:
            write()
        except OSError as error:
            failure = error
        failure = comm.all_gather(failure)[0]
        if failure is None:
            accept(file)
            return True
        last = self.checkpointer.get_checkpoint_file()
        kept = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
        refuse(file, failure, f"{kept}; {self._then(name)}")
        return False

    def _then(self, name: str) -> str:
        if name.startswith(f"{self.file_prefix}_final"):
            return "the run ends here: make it writable and go on with --resume"
        if interruption.signal:
            return "the run ends here"
        again = -(-(self.trainer.iter + 2) // self.period) * self.period
        again = min(again, self.trainer.max_iter) - 1
        return f"the training goes on, and iteration {again} tries again"

    def _remove(self, name: str) -> None:
        path = os.path.join(self.checkpointer.save_dir, name)
        if self.checkpointer.save_to_disk and self.path_manager.isfile(path):
            try:
                self.path_manager.rm(path)
            except OSError as error:
                logger.error(f"old checkpoint {path} cannot be removed: {error.strerror}")
