"""A trained model on pictures, without a dataset."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.structures import Instances
from detectron2.utils.file_io import PathManager

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.data.pictures import read_picture
from focal_retina.data.register import class_names
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
        class_names: K names; numbers where no dataset of the config states names.
        category_ids: K ids in the dataset; from 1 on where they are not known.

    Args:
        config_file: YAML, or Python for a LazyConfig; of its datasets only the classes are used.
        weights: in the place of the config's.
        opts: ``KEY VALUE KEY VALUE ...``, for a LazyConfig ``key=value ...``.
        trust_config: let Python tags in the YAML run their code.

    Raises:
        UserError: as ``load_settings``; no weights, or weights that cannot be read.
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
        datasets = [*settings.test_datasets, *settings.train_datasets]
        settings = settings.completed(datasets, opens_datasets=False)
        self.cfg, self.model = settings.cfg, settings.parts.model()
        names, self.weights = class_names(datasets), weights
        with weights_errors(key, weights):
            FocalCheckpointer(self.model, class_names=names, complete=True).load(weights)
        self.model.eval()
        self._image_format, self._augmentations = settings.parts.test_input()
        self._dtype = settings.test_dtype
        self.class_names = names or [str(i) for i in range(settings.num_classes or 0)]
        self.category_ids = _category_ids(datasets) or list(range(1, len(self.class_names) + 1))

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


def _category_ids(datasets: Sequence[str]) -> list[int] | None:
    for name in datasets:
        metadata = MetadataCatalog.get(name)
        ids = metadata.get("thing_dataset_id_to_contiguous_id")
        if ids is not None:
            return sorted(ids, key=ids.get)
        json_file = metadata.get("json_file")
        if json_file and PathManager.isfile(json_file):  # one of ours, not yet loaded
            with PathManager.open(json_file) as file:
                return sorted(category["id"] for category in json.load(file)["categories"])
    return None
