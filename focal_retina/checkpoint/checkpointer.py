"""Detectron2's checkpointer, made safe against crashes, untrusted files and wrong classes."""

import os
from collections.abc import Sequence
from typing import Any

from detectron2.utils import comm
from torch import nn

from focal_retina.checkpoint.classes import classes_of, fit_class_logits, refuse_other_classes
from focal_retina.checkpoint.conversion.sources import recognise
from focal_retina.checkpoint.fit import check_finite, check_types
from focal_retina.checkpoint.rank_states import apply_differences, gather_differences
from focal_retina.checkpoint.reading import read_checkpoint
from focal_retina.checkpoint.resumable import newest_whole_file, resumable_files, tagged_file
from focal_retina.detectron2_internals import OpenCheckpointer
from focal_retina.errors import SharedError, UserError
from focal_retina.files import save_atomically, write_atomically
from focal_retina.states import state_errors


class FocalCheckpointer(OpenCheckpointer):
    """A ``DetectionCheckpointer`` with these additions.

    - Its files are whole, whenever the process dies. If the last one is damaged all the same, a
      run resumes from the newest whole one.
    - A checkpoint of a run has what each of its processes has of its own.
    - A file that holds more than arrays and plain containers is refused.
    - Weights of another project are refused; the error names the command that converts them.
    - A checkpoint has the names and ids of the classes. If the model has other classes, those of
      the same name keep their logits and the others start anew; the log says so.

    Args:
        model, save_dir, checkpointables: see ``DetectionCheckpointer``.
        class_names: of the model, in the order of its logits; None where they are unknown.
        category_ids: of these classes in the dataset; None where they are unknown.
        complete: refuse weights of other classes, that are not finite, or that leave any weight of
            the model at its random start. Use it for evaluation. Otherwise weights are refused
            only if none of them fits.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        class_names: Sequence[str] | None = None,
        category_ids: Sequence[int] | None = None,
        complete: bool = False,
        **checkpointables: object,
    ):
        super().__init__(model, save_dir, **checkpointables)
        self.class_names = list(class_names) if class_names else None
        self.category_ids = list(category_ids) if self.class_names and category_ids else None
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
        classes = {"class_names": self.class_names, "category_ids": self.category_ids}
        classes = {key: values for key, values in classes.items() if values}
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

    def get_checkpoint_file(self) -> str:
        return tagged_file(self.save_dir)

    def has_checkpoint(self) -> bool:
        return bool(resumable_files(self.save_dir))

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict:
        """Load the last checkpoint; load weights if there is none or ``resume`` is False.

        If the last checkpoint is damaged, the newest whole one takes its place, with a warning.

        Raises:
            SharedError: none is whole, or the one is of another model or cannot be used.
        """
        if not (resume and self.has_checkpoint()):
            return self.load(path, checkpointables=[])
        # All processes load what the main one chooses.
        choice = newest_whole_file(self.save_dir) if comm.is_main_process() else None
        choice = comm.all_gather(choice)[0]
        if choice is None:
            raise SharedError(
                f"no checkpoint in {self.save_dir} is whole (see the warnings): put a whole one "
                "there, or start anew without --resume"
            )
        content, reason = {}, None
        try:
            content = self.load(choice)
        except UserError as error:
            reason = str(error)
        if reason := next(filter(None, comm.all_gather(reason)), None):
            remedy = (
                "; to start anew from its weights, set MODEL.WEIGHTS (train.init_checkpoint) to it "
                "and leave --resume out"
            )
            remedy = remedy if self.checkpointables else ""
            raise SharedError(f"checkpoint {choice} cannot be resumed: {reason}{remedy}")
        return content

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict:
        # Whoever loads the trainer's state resumes the run; the others want the file's weights.
        self._resumes = checkpointables is None and bool(self.checkpointables)
        content = super().load(path, [])
        for key in self.checkpointables if checkpointables is None else checkpointables:
            if key not in content:
                raise UserError(f"it has weights only, and no state of the {key}")
            with state_errors(f"the {key}"):
                self.checkpointables[key].load_state_dict(content.pop(key))
        return content

    def load_file(self, filename: str) -> dict:
        content = read_checkpoint(filename)
        weights = content["model"]
        kind = recognise(weights)
        if kind not in (None, "detectron2"):
            raise UserError(
                f"{filename} has the weights of {kind}; convert them first: python -m "
                f"focal_retina.tools.convert_checkpoint {filename} converted.pth"
            )
        self._take_own_state(content)
        suffix = filename.rpartition(".")[2]
        if suffix == "pyth" or (suffix == "pkl" and "__author__" not in content):
            # As Detectron2 marks backbones of pycls and Caffe2.
            author = "pycls" if suffix == "pyth" else "Caffe2"
            dropped = ("num_batches_tracked", "_momentum")
            weights = {name: x for name, x in weights.items() if not name.endswith(dropped)}
            return {"model": weights, "__author__": author, "matching_heuristics": True}
        matching = content.get("matching_heuristics") is True or self.asks_for_matching()
        return {**content, "matching_heuristics": matching}

    def _take_own_state(self, content: dict) -> None:
        """Replace the main process's state in a checkpoint by that of this process."""
        differences = content.pop("ranks", {})
        now = comm.get_world_size()
        then = content.pop("world_size", now)
        if self._resumes and then == now:
            with state_errors("the processes"):
                apply_differences(content, differences.get(comm.get_rank(), []))
        elif self._resumes:
            self.logger.warning(
                f"The checkpoint is of {then} processes, and now there are {now}: all go on with "
                "the statistics and running means of the first."
            )

    def load_model(self, checkpoint: dict) -> object:
        weights, fresh = checkpoint["model"], self.model.state_dict()
        num_classes, names = getattr(self.model, "num_classes", None), classes_of(checkpoint).names
        is_matched = checkpoint["matching_heuristics"]
        check_types(weights, fresh, is_matched)
        if self.complete or self._resumes:
            refuse_other_classes(weights, fresh, num_classes, names, self.class_names)
        if num_classes is not None:
            report = fit_class_logits(weights, fresh, num_classes, names, self.class_names)
            if report:
                self.logger.warning(report)
        incompatible: Any = (self._match if is_matched else super().load_model)(checkpoint)
        # Weights of other projects lack this running mean of the training, and it starts anew.
        missing = incompatible.missing_keys
        missing[:] = [name for name in missing if not name.startswith("loss.normalizer.")]
        shapes = {name: shapes for name, *shapes in incompatible.incorrect_shapes}
        self._check_fit(missing, shapes)
        if self.complete:
            check_finite(self.model)
        return incompatible

    def _match(self, checkpoint: dict) -> Any:
        """Load weights by Detectron2's heuristics, which take the shapes of Caffe2 for granted."""
        try:
            return super().load_model(checkpoint)
        except Exception as error:
            kind = type(error).__name__
            raise UserError(f"its weights cannot be matched by their names ({kind})") from error

    def _check_fit(self, missing: list[str], shapes: dict[str, list]) -> None:
        """Raise a UserError where too few of the weights have a place in the model."""
        names = [name for name, _ in self.model.named_parameters()]
        names += [name for name, _ in self.model.named_buffers() if ".running_" in name]
        unfit = [name for name in names if name in shapes or name in missing]
        if not unfit or not (self.complete or self._resumes or len(unfit) == len(names)):
            return
        reason = "is missing"
        if unfit[0] in shapes:
            reason = "is {} there and {} in the model".format(*shapes[unfit[0]])
        raise UserError(
            f"it is of another model: {len(unfit)} of {len(names)} weights do not fit, such as "
            f"{unfit[0]}, which {reason}"
        )


def read_weights(path: str) -> dict:
    """Return what :meth:`FocalCheckpointer.load_model` takes, of a file or URL.

    Raises:
        UserError, OSError, AssertionError: see ``weights_errors``.
    """
    reader = FocalCheckpointer(nn.Module())
    reader.load_model = lambda checkpoint: None  # type: ignore[method-assign]
    return reader.load(path, [])
