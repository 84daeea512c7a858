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
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        class_names: Sequence[str] | None = None,
        **checkpointables,
    ):
        super().__init__(model, save_dir, **checkpointables)
        self.class_names = list(class_names) if class_names else None

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
        return incompatible
