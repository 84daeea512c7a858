"""When checkpoints of a run are written, what happens if they cannot be, and which are kept."""

import logging
import os
import re

from detectron2.engine import hooks
from detectron2.utils import comm

from focal_retina.files import unfinished_files
from focal_retina.states import conform

logger = logging.getLogger(__name__)

# Exit status of a run whose result is not on the disk.
_UNSAVED = 2


class RunCheckpointer(hooks.PeriodicCheckpointer):
    """Detectron2's ``PeriodicCheckpointer``, with a ``FocalCheckpointer``, for disks that fail.

    Each process must have it. If a checkpoint on the way cannot be written, the log says so and the
    training goes on; if it is the last one, the run ends with status 2. Of the periodic
    checkpoints, the ``max_to_keep`` newest stay; the best and the final one are never removed.
    """

    def before_train(self) -> None:
        super().before_train()
        self._failed_at_the_end = False
        if self.checkpointer.save_to_disk:
            for path in unfinished_files(self.checkpointer.save_dir):
                logger.info(f"Removing {path}, which a killed run has left.")
                path.unlink()

    def after_step(self) -> None:
        iteration = self.trainer.iter
        if (iteration + 1) % self.period == 0:
            name = f"{self.file_prefix}_{iteration:07d}"
            self.recent_checkpoints.append(f"{name}.pth")
            if not self._save(name, iteration):
                self.recent_checkpoints.pop()
        self.finish_step()

    def finish_step(self) -> None:
        """Do what follows the periodic checkpoint; a resumed run does it for one that died."""
        while self.max_to_keep and len(self.recent_checkpoints) > self.max_to_keep:
            path = os.path.join(self.checkpointer.save_dir, self.recent_checkpoints.pop(0))
            if self.checkpointer.save_to_disk and self.path_manager.isfile(path):
                try:
                    self.path_manager.rm(path)
                except OSError as error:
                    logger.error(f"old checkpoint {path} cannot be removed: {error.strerror}")
        if self.trainer.iter >= self.trainer.max_iter - 1:
            self.save_final(self.trainer.iter)

    def save_final(self, iteration: int) -> None:
        """Save the final checkpoint after an iteration; raise SystemExit if that is impossible."""
        self._failed_at_the_end = not self._save(f"{self.file_prefix}_final", iteration)
        self.after_train()

    def after_train(self) -> None:
        # Again after the training loop: no evaluation of what could not be saved.
        if self._failed_at_the_end:
            raise SystemExit(_UNSAVED)

    def state_dict(self) -> dict:
        return {"recent_checkpoints": self.recent_checkpoints.copy()}

    def load_state_dict(self, state: dict) -> None:
        # They will be removed: of what else a file may name, nothing is.
        ours = re.compile(re.escape(self.file_prefix) + r"_[0-9]{7,}\.pth")
        names = conform(self.state_dict(), state)["recent_checkpoints"]
        self.recent_checkpoints = [x for x in names if isinstance(x, str) and ours.fullmatch(x)]

    def _save(self, name: str, iteration: int) -> bool:
        """Save in all processes; return whether the main one could write."""
        reason = None
        try:
            self.checkpointer.save_run(name, iteration=iteration)
        except OSError as error:
            reason = error.strerror or str(error)
        reason = comm.all_gather(reason)[0]
        if reason:
            path = os.path.join(self.checkpointer.save_dir, f"{name}.pth")
            last = self.checkpointer.get_checkpoint_file()
            kept = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
            then = "the run ends here: make it writable and go on with --resume"
            if not name.endswith("_final"):
                again = -(-(iteration + 2) // self.period) * self.period
                again = min(again, self.trainer.max_iter) - 1
                then = f"the training goes on, and iteration {again} tries again"
            logger.error(f"checkpoint {path} cannot be written ({reason}); {kept}; {then}")
        return not reason
