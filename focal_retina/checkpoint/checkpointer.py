"""Detectron2's checkpointer, which reads safely and knows class names."""

from collections.abc import Sequence

from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from focal_retina.checkpoint.classes import fit_class_logits
from focal_retina.checkpoint.reading import read_checkpoint
from focal_retina.checkpoint.sources import recognise, weights_of


class FocalCheckpointer(DetectionCheckpointer):
    """Load and save as ``DetectionCheckpointer`` does, and besides

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
        self.complete = complete

    def save(self, name: str, **kwargs) -> None:
        if self.class_names:
            kwargs["class_names"] = self.class_names
        super().save(name, **kwargs)

    def _load_file(self, filename: str) -> dict:
        content = read_checkpoint(filename)
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
