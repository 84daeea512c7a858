"""A trained model on pictures, without a dataset."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.structures import Instances

from focal_retina.checkpoint.checkpointer import FocalCheckpointer, read_weights
from focal_retina.checkpoint.classes import classes_of
from focal_retina.data.pictures import read_picture
from focal_retina.data.register import category_ids, class_names, on_this_machine
from focal_retina.errors import UserError
from focal_retina.evaluation.evaluate import evaluation_mode
from focal_retina.settings.foreign_errors import weights_errors
from focal_retina.settings.load import load_settings


class Predictor:
    """Detects objects in pictures, as the evaluation does.

    Attributes:
        cfg: the config, with what the machine and the classes decide.
        model: with its weights, in eval mode.
        weights: their file.
        class_names: K names of the config's datasets or else of the weights; numbers where neither
            states any.
        category_ids: K ids in the dataset; from 1 on where they are not known.

    Args:
        config_file: YAML, or Python for a LazyConfig; of its datasets only the classes are used,
            and they may be elsewhere if the weights state theirs.
        weights: in the place of the config's.
        opts: ``KEY VALUE KEY VALUE ...``, for a LazyConfig ``key=value ...``.
        trust_config: let Python tags in the YAML run their code.

    Raises:
        UserError: as ``load_settings``; no weights, or weights that cannot be read or are of other
            classes.
    """

    def __init__(
        self,
        config_file: str,
        weights: str | Path | None = None,
        opts: Sequence[str] = (),
        *,
        trust_config: bool = False,
    ):
        settings = load_settings(config_file, opts, trust_config=trust_config, trains=False)
        key = settings.key("weights")
        weights = str(weights or settings.weights)
        if not weights:
            raise UserError(f"{config_file} has no {key}; name the model's weights")
        with weights_errors(key, weights):
            checkpoint = read_weights(weights)
            found = classes_of(checkpoint)
        if found.names:
            settings = replace(settings, register=on_this_machine(settings.register))
        datasets = [*settings.test_datasets, *settings.train_datasets]
        otherwise = {weights: found.names} if found.names else None
        settings = settings.completed(datasets, opens_datasets=False, otherwise=otherwise)
        self.cfg, self.model = settings.cfg, settings.parts.model()
        names = class_names(datasets) or found.names
        with weights_errors(key, weights):
            checkpointer = FocalCheckpointer(self.model, class_names=names, complete=True)
            checkpointer.log_misfits(checkpointer.load_model(checkpoint))
        self.model.eval()
        self.weights = weights
        self._image_format, self._augmentations = settings.parts.test_input()
        self._dtype = settings.test_dtype
        self.class_names = names or [str(i) for i in range(settings.num_classes or 0)]
        # The order of the names is the dataset's, if it states any.
        ids = category_ids(datasets) or (found.ids if names == found.names else None)
        self.category_ids = ids or list(range(1, len(self.class_names) + 1))

    @torch.no_grad()
    def __call__(self, pictures: Sequence[str | Path | np.ndarray]) -> list[Instances]:
        """Return one ``Instances`` per picture, on the CPU; all pictures make one batch.

        Each has ``pred_boxes`` (pixels of the picture, xyxy), ``scores`` (above the config's
        threshold, descending) and ``pred_classes``.

        Args:
            pictures: files, or images (H, W, 3), uint8, RGB.

        Raises:
            ImageError: a file cannot be read.
            ValueError: an array has another shape or type.
        """
        images = [x if isinstance(x, np.ndarray) else read_picture(x) for x in pictures]
        inputs = [self.network_input(image) for image in images]
        if not inputs:
            return []
        with evaluation_mode(self.model, self._dtype) as model:
            return [x["instances"].to("cpu") for x in model(inputs)]

    def network_input(self, image: np.ndarray) -> dict:
        """Return one image (H, W, 3), uint8, RGB, in the form that the model's forward takes."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"an image is (H, W, 3), uint8, RGB, not {image.shape}, {image.dtype}")
        height, width = image.shape[:2]
        if self._image_format == "BGR":
            image = image[:, :, ::-1]
        aug_input = T.AugInput(np.ascontiguousarray(image))
        self._augmentations(aug_input)
        pixels = torch.from_numpy(np.ascontiguousarray(aug_input.image.transpose(2, 0, 1)))
        return {"image": pixels, "height": height, "width": width}
