"""A trained model on pictures, without a dataset.

from focal_retina.engine.predictor import Predictor
predictor = Predictor("output/config.yaml", "output/model_final.pth")
instances = predictor(["street.jpg", "garden.png"])
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.modeling import build_model
from detectron2.structures import Instances
from detectron2.utils.file_io import PathManager
from PIL import Image, ImageOps

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.data.register import agree_on_classes, class_names, register_datasets
from focal_retina.engine.checks import usable_device, weights_errors
from focal_retina.engine.config import load_yaml
from focal_retina.engine.evaluation import evaluation_mode
from focal_retina.engine.trainer import evaluation_dtype


class Predictor:
    """From pictures to detections, as the evaluation makes them.

    Attributes: ``cfg``; ``model``; ``class_names``, the names of the classes, their numbers where
    no dataset of the config states them; ``category_ids``, the id of each in the dataset, from 1 on
    where it is not known.

    Args:
        config_file: YAML; of its datasets only the names of the classes are used.
        weights: in the place of ``MODEL.WEIGHTS``.
        opts: ``KEY VALUE KEY VALUE ...``, in the place of the config's.

    Raises:
        ValueError: as ``load_yaml`` does, or weights that cannot be loaded.
    """

    def __init__(self, config_file: str, weights: str | None = None, opts: Sequence[str] = ()):
        cfg = load_yaml(config_file, opts)
        if weights is not None:
            cfg.MODEL.WEIGHTS = str(weights)
        if not cfg.MODEL.WEIGHTS:
            raise ValueError(f"{config_file} has no MODEL.WEIGHTS; name the model's weights")
        cfg.MODEL.DEVICE = usable_device("MODEL.DEVICE", cfg.MODEL.DEVICE)
        register_datasets(cfg.DATASETS.REGISTER)
        datasets = [*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN]
        retinanet = cfg.MODEL.RETINANET
        retinanet.NUM_CLASSES = agree_on_classes(
            "MODEL.RETINANET.NUM_CLASSES", retinanet.NUM_CLASSES, datasets
        )
        count = retinanet.NUM_CLASSES
        self.class_names = class_names(datasets) or [str(i) for i in range(count)]
        self.category_ids = _category_ids(datasets, count)
        self.cfg = cfg
        self.model = build_model(cfg).eval()
        with weights_errors("MODEL.WEIGHTS", cfg.MODEL.WEIGHTS):
            FocalCheckpointer(self.model, class_names=class_names(datasets), complete=True).load(
                cfg.MODEL.WEIGHTS
            )
        sides = [cfg.INPUT.MIN_SIZE_TEST] * 2
        self._resize = T.ResizeShortestEdge(sides, cfg.INPUT.MAX_SIZE_TEST)

    @torch.no_grad()
    def __call__(self, pictures: Sequence[str | Path | np.ndarray]) -> list[Instances]:
        """Return one ``Instances`` per picture, as one batch, on the CPU.

        Each has ``pred_boxes`` (pixels of the picture, xyxy), ``scores`` (above
        ``MODEL.RETINANET.SCORE_THRESH_TEST``, descending) and ``pred_classes``.

        Args:
            pictures: files, or images (H, W, 3), uint8, RGB.

        Raises:
            ValueError: see :func:`read_picture`; an array of another shape or type.
        """
        images = [x if isinstance(x, np.ndarray) else read_picture(x) for x in pictures]
        inputs = [self.network_input(image) for image in images]
        if not inputs:
            return []
        with evaluation_mode(self.model, evaluation_dtype(self.cfg, self.model.device)) as model:
            return [x["instances"].to("cpu") for x in model(inputs)]

    def network_input(self, image: np.ndarray) -> dict:
        """Return what the model's forward takes of one image (H, W, 3), uint8, RGB."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"an image is (H, W, 3), uint8, RGB, not {image.shape}, {image.dtype}")
        if self.cfg.INPUT.FORMAT == "BGR":
            image = image[:, :, ::-1]
        height, width = image.shape[:2]
        resized = self._resize.get_transform(image).apply_image(image)
        pixels = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        return {"image": pixels, "height": height, "width": width}


def read_picture(path: str | Path) -> np.ndarray:
    """Return a picture as (H, W, 3), uint8, RGB, turned as its EXIF data says.

    Grey becomes RGB, transparency is dropped, as in training; 16-bit grey is scaled to 8 bits.

    Raises:
        ValueError: the file is missing, broken, or no picture of whole numbers.
    """
    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode == "F":
                raise ValueError("its pixels are floating-point numbers of unknown range")
            if image.mode.startswith("I"):  # Pillow would clip what is above 255
                image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
            return np.array(image.convert("RGB"))
    # What Pillow raises of broken files besides OSError, and of too large ones.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _category_ids(datasets: Sequence[str], num_classes: int) -> list[int]:
    for name in datasets:
        metadata = MetadataCatalog.get(name)
        ids = metadata.get("thing_dataset_id_to_contiguous_id")
        if ids is not None:
            return sorted(ids, key=ids.get)
        json_file = metadata.get("json_file")
        if json_file and PathManager.isfile(json_file):  # one of ours, not yet loaded
            with PathManager.open(json_file) as file:
                return sorted(category["id"] for category in json.load(file)["categories"])
    return list(range(1, num_classes + 1))
