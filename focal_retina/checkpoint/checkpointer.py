"""Detectron2's checkpointer, which reads safely, writes whole files and knows class names."""

import io
import os
import re
from collections.abc import Sequence

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils import comm
from torch import nn

from focal_retina.checkpoint.atomic import write_atomically
from focal_retina.checkpoint.classes import fit_class_logits
from focal_retina.checkpoint.conversion.sources import recognise, weights_of
from focal_retina.checkpoint.rank_states import apply_differences, gather_differences
from focal_retina.checkpoint.reading import damage, read_checkpoint


class FocalCheckpointer(DetectionCheckpointer):
    """Load and save as ``DetectionCheckpointer`` does, and besides

    - write files that are whole whenever the process dies, and find a whole one to resume from,
    - keep what each process of a run has of its own,
    - refuse files that hold more than arrays and plain containers,
    - refuse weights of other projects, with the command that converts them,
    - keep the names of the classes with the weights, and load a checkpoint of other classes: those
      of the same name keep their logits, the others start anew, and the log says so.

    Args:
        model, save_dir, checkpointables: see ``DetectionCheckpointer``.
        class_names: of the model, in the order of its logits; None where they are unknown.
        complete: refuse weights that leave any of the model's at its random start, as those to
            evaluate must not. Otherwise only those of which none fits.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        class_names: Sequence[str] | None = None,
        complete: bool = False,
        **checkpointables,
    ):
        super().__init__(model, save_dir, **checkpointables)
        self.class_names = list(class_names) if class_names else None
        self._resumes = False
        self.complete = complete

    def save(self, name: str, **kwargs) -> None:
        """Write ``name.pth``, whole or not at all, and then ``last_checkpoint``.

        The best model (``model_best.pth``) is not what a run resumes from.

        Raises:
            OSError: it cannot be written; what was there before still is.
        """
        self._write(name, self._content(**kwargs))

    def save_run(self, name: str, **kwargs) -> None:
        """Save as ``save`` does, with what the other processes have of their own.

        All processes must call it; the main one writes.
        """
        content = self._content(**kwargs)
        content["ranks"] = gather_differences(content)
        content["world_size"] = comm.get_world_size()
        self._write(name, content)

    def _content(self, **kwargs) -> dict:
        states = {key: part.state_dict() for key, part in self.checkpointables.items()}
        classes = {"class_names": self.class_names} if self.class_names else {}
        return {"model": self.model.state_dict(), **states, **kwargs, **classes}

    def _write(self, name: str, content: dict) -> None:
        if not self.save_dir or not self.save_to_disk:
            return
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info(f"Saving checkpoint to {path}")
        # In memory first: PyTorch hides why a disk refuses a file.
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_atomically(path, buffer.getbuffer())
        if not name.startswith("model_best"):
            self.tag_last_checkpoint(f"{name}.pth")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        path = os.path.join(self.save_dir, "last_checkpoint")
        write_atomically(path, last_filename_basename.encode())

    def has_checkpoint(self) -> bool:
        return bool(self._resumable_files())

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict:
        """Load the last checkpoint, or weights if there is none or if it is not asked for.

        In the place of a damaged checkpoint comes the newest whole one, with a warning.

        Raises:
            ValueError: there are checkpoints to resume from, and none is whole.
        """
        if not (resume and self.has_checkpoint()):
            return self.load(path, checkpointables=[])
        # All processes load what the main one chooses.
        choice = self._newest_whole_file() if comm.is_main_process() else None
        choice = comm.all_gather(choice)[0]
        if choice is None:
            raise ValueError(
                f"no checkpoint in {self.save_dir} is whole (see the warnings): put a whole one "
                "there, or start anew without --resume"
            )
        return self.load(choice)

    def _resumable_files(self) -> list[str]:
        """The file that ``last_checkpoint`` names, then its siblings, the newest first."""
        if not self.save_dir or not self.path_manager.isdir(self.save_dir):
            return []
        tagged = self.get_checkpoint_file()
        name = re.fullmatch(r"(.+)_(?:\d{7,}|final)\.pth", os.path.basename(tagged))
        sibling = re.compile(re.escape(name[1] if name else "model") + r"_(\d{7,}|final)\.pth")
        names = filter(sibling.fullmatch, self.path_manager.ls(self.save_dir))
        found = [os.path.join(self.save_dir, name) for name in names]
        found.sort(key=os.path.getmtime, reverse=True)
        return list(dict.fromkeys([*filter(None, [tagged]), *found]))

    def _newest_whole_file(self) -> str | None:
        for path in self._resumable_files():
            reason = damage(path)
            if reason is None:
                return path
            self.logger.warning(f"Checkpoint {path} is damaged ({reason}): looking for another.")

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict:
        # Who loads the trainer's state goes on with the run; others want the weights of the file.
        self._resumes = checkpointables is None and bool(self.checkpointables)
        return super().load(path, checkpointables)

    def _load_file(self, filename: str) -> dict:
        content = read_checkpoint(filename)
        self._take_own_state(content)
        kind = recognise(weights_of(content))
        if kind not in (None, "detectron2"):
            raise ValueError(
                f"{filename} has the weights of {kind}; convert them first: python -m "
                f"focal_retina.tools.convert_checkpoint {filename} converted.pth"
            )
        if filename.endswith(".pyth"):
            return super()._load_file(filename)
        if not filename.endswith(".pkl"):
            content = content if "model" in content else {"model": content}
            if self._parsed_url_during_load.query == "matching_heuristics=True":
                content["matching_heuristics"] = True
            return content
        if "model" in content and "__author__" in content:
            return content
        blobs = content.get("blobs", content)
        blobs = {name: blob for name, blob in blobs.items() if not name.endswith("_momentum")}
        # As Detectron2 marks backbones of Caffe2.
        return {"model": blobs, "__author__": "Caffe2", "matching_heuristics": True}

    def _take_own_state(self, content: dict) -> None:
        """Exchange what the main process saved by what this one had."""
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

    def _load_model(self, checkpoint: dict):
        self._convert_ndarray_to_tensor(checkpoint["model"])
        num_classes = getattr(self.model, "num_classes", None)
        found = checkpoint.get("class_names")
        if num_classes is not None:
            report = fit_class_logits(
                checkpoint["model"],
                self.model.state_dict(),
                num_classes,
                found,
                self.class_names,
            )
            if report:
                self.logger.warning(report)
        incompatible = super()._load_model(checkpoint)
        # A running mean of the training, which other projects lack; it starts anew.
        for name in [n for n in incompatible.missing_keys if n.startswith("loss.normalizer.")]:
            incompatible.missing_keys.remove(name)
        self._check_fit(incompatible)
        return incompatible

    def _check_fit(self, incompatible) -> None:
        """Raise a ValueError where too few of the weights have a place in the model."""
        names = [name for name, _ in self.model.named_parameters()]
        shapes = {name: shapes for name, *shapes in incompatible.incorrect_shapes}
        missing = [n for n in names if n in shapes or n in incompatible.missing_keys]
        if not missing or not (self.complete or len(missing) == len(names)):
            return
        reason = "is missing"
        if missing[0] in shapes:
            reason = "is {} there and {} in the model".format(*shapes[missing[0]])
        raise ValueError(
            f"it is of another model: {len(missing)} of {len(names)} weights do not fit, such as "
            f"{missing[0]}, which {reason}"
        )
