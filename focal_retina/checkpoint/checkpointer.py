"""Detectron2's checkpointer, made safe against crashes, untrusted files and wrong classes."""

import os
import re
from collections.abc import Sequence

from detectron2.utils import comm
from torch import nn

from focal_retina.checkpoint.classes import fit_class_logits
from focal_retina.checkpoint.conversion.sources import recognise
from focal_retina.checkpoint.rank_states import apply_differences, gather_differences
from focal_retina.checkpoint.reading import damage, read_checkpoint, weights_of
from focal_retina.checkpoint.unbuilt import drop_unbuilt_p7
from focal_retina.detectron2_internals import OpenCheckpointer
from focal_retina.errors import UserError
from focal_retina.files import save_atomically, write_atomically


class FocalCheckpointer(OpenCheckpointer):
    """A ``DetectionCheckpointer`` with these additions.

    - Its files are whole, whenever the process dies. If the last one is damaged all the same, a
      run resumes from the newest whole one.
    - A checkpoint of a run has what each of its processes has of its own.
    - A file that holds more than arrays and plain containers is refused.
    - Weights of another project are refused; the error names the command that converts them.
    - A checkpoint has the names of the classes. If the model has other classes, those of the same
      name keep their logits and the others start anew; the log says so.

    Args:
        model, save_dir, checkpointables: see ``DetectionCheckpointer``.
        class_names: of the model, in the order of its logits; None where they are unknown.
        complete: refuse weights that leave any weight of the model at its random start. Use it for
            evaluation. Otherwise weights are refused only if none of them fits.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        class_names: Sequence[str] | None = None,
        complete: bool = False,
        **checkpointables: object,
    ):
        super().__init__(model, save_dir, **checkpointables)
        self.class_names = list(class_names) if class_names else None
        self.complete = complete
        self._resumes = False

    def save(self, name: str, **kwargs: object) -> None:
        """Write ``name.pth``, whole or not at all, and then ``last_checkpoint``.

        The best model, from which no run resumes, does not become the last checkpoint.
        """
        self._write(name, self._content(**kwargs))

    def save_run(self, name: str, **kwargs: object) -> None:
        """Save with what the other processes have of their own; all processes must call it."""
        content = self._content(**kwargs)
        content["ranks"] = gather_differences(content)
        content["world_size"] = comm.get_world_size()
        self._write(name, content)

    def _content(self, **kwargs: object) -> dict:
        states = {key: part.state_dict() for key, part in self.checkpointables.items()}
        classes = {"class_names": self.class_names} if self.class_names else {}
        return {"model": self.model.state_dict(), **states, **kwargs, **classes}

    def _write(self, name: str, content: dict) -> None:
        if not self.save_dir or not self.save_to_disk:
            return
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info(f"Saving checkpoint to {path}")
        save_atomically(content, path)
        if not name.startswith("model_best"):
            self.tag_last_checkpoint(f"{name}.pth")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        path = os.path.join(self.save_dir, "last_checkpoint")
        write_atomically(path, last_filename_basename.encode())

    def has_checkpoint(self) -> bool:
        return bool(self._resumable_files())

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict:
        """Load the last checkpoint; load weights if there is none or ``resume`` is False.

        If the last checkpoint is damaged, the newest whole one takes its place, with a warning; if
        none is whole, a UserError ends the run.
        """
        if not (resume and self.has_checkpoint()):
            return self.load(path, checkpointables=[])
        # All processes load what the main one chooses.
        choice = self._newest_whole_file() if comm.is_main_process() else None
        choice = comm.all_gather(choice)[0]
        if choice is None:
            raise UserError(
                f"no checkpoint in {self.save_dir} is whole (see the warnings): put a whole one "
                "there, or start anew without --resume"
            )
        return self.load(choice)

    def _resumable_files(self) -> list[str]:
        """Return the file that ``last_checkpoint`` names, then its siblings, the newest first."""
        if not self.save_dir or not os.path.isdir(self.save_dir):
            return []
        tagged = self.get_checkpoint_file()
        ending = r"_(?:\d{7,}|final|interim)\.pth"
        name = re.fullmatch(f"(.+){ending}", os.path.basename(tagged))
        sibling = re.compile(re.escape(name[1] if name else "model") + ending)
        names = filter(sibling.fullmatch, os.listdir(self.save_dir))
        found = [os.path.join(self.save_dir, name) for name in names]
        found.sort(key=os.path.getmtime, reverse=True)
        return list(dict.fromkeys([*filter(None, [tagged]), *found]))

    def _newest_whole_file(self) -> str | None:
        for path in self._resumable_files():
            reason = damage(path)
            if reason is None:
                return path
            self.logger.warning(f"Checkpoint {path} is damaged ({reason}): looking for another.")
        return None

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict:
        # Whoever loads the trainer's state resumes the run; the others want the file's weights.
        self._resumes = checkpointables is None and bool(self.checkpointables)
        return super().load(path, checkpointables)

    def load_file(self, filename: str) -> dict:
        content = read_checkpoint(filename)
        self._take_own_state(content)
        if self._resumes and "trainer" in content:
            trainer = self.checkpointables["trainer"]
            drop_unbuilt_p7(content, self.model, trainer.optimizer)
        kind = recognise(weights_of(content))
        if kind not in (None, "detectron2"):
            raise UserError(
                f"{filename} has the weights of {kind}; convert them first: python -m "
                f"focal_retina.tools.convert_checkpoint {filename} converted.pth"
            )
        if filename.endswith(".pyth"):
            return super().load_file(filename)
        if not filename.endswith(".pkl"):
            content = content if "model" in content else {"model": content}
            if self.asks_for_matching():
                content["matching_heuristics"] = True
            return content
        if "model" in content and "__author__" in content:
            return content
        blobs = content.get("blobs", content)
        blobs = {name: blob for name, blob in blobs.items() if not name.endswith("_momentum")}
        # As Detectron2 marks backbones of Caffe2.
        return {"model": blobs, "__author__": "Caffe2", "matching_heuristics": True}

    def _take_own_state(self, content: dict) -> None:
        """Replace the main process's state in a checkpoint by that of this process."""
        differences = content.pop("ranks", {})
        now = comm.get_world_size()
        then = content.pop("world_size", now)
        if self._resumes and then == now:
            apply_differences(content, differences.get(comm.get_rank(), []))
        elif self._resumes:
            self.logger.warning(
                f"The checkpoint is of {then} processes, and now there are {now}: all go on with "
                "the statistics and running means of the first."
            )

    def load_model(self, checkpoint: dict) -> object:
        weights = checkpoint["model"]
        self.arrays_to_tensors(weights)
        num_classes = getattr(self.model, "num_classes", None)
        if num_classes is not None:
            fresh, found = self.model.state_dict(), checkpoint.get("class_names")
            report = fit_class_logits(weights, fresh, num_classes, found, self.class_names)
            if report:
                self.logger.warning(report)
        incompatible = super().load_model(checkpoint)
        # Weights of other projects lack this running mean of the training, and it starts anew.
        missing = incompatible.missing_keys
        missing[:] = [name for name in missing if not name.startswith("loss.normalizer.")]
        shapes = {name: shapes for name, *shapes in incompatible.incorrect_shapes}
        self._check_fit(missing, shapes)
        return incompatible

    def _check_fit(self, missing: list[str], shapes: dict[str, list]) -> None:
        """Raise a UserError where too few of the weights have a place in the model."""
        names = [name for name, _ in self.model.named_parameters()]
        unfit = [name for name in names if name in shapes or name in missing]
        if not unfit or not (self.complete or len(unfit) == len(names)):
            return
        reason = "is missing"
        if unfit[0] in shapes:
            reason = "is {} there and {} in the model".format(*shapes[unfit[0]])
        raise UserError(
            f"it is of another model: {len(unfit)} of {len(names)} weights do not fit, such as "
            f"{unfit[0]}, which {reason}"
        )
