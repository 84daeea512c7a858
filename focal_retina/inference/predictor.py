"""A trained model on pictures, without a dataset.

from focal_retina.inference.predictor import Predictor
predictor = Predictor("output/config.yaml", "output/model_final.pth")
instances = predictor(["street.jpg", "garden.png"])
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.structures import Instances
from PIL import Image, ImageOps

from focal_retina.evaluation.mode import evaluation_mode
from focal_retina.inference.detector import load_detector


class Predictor:
    """From pictures to detections, as the evaluation makes them.

    Attributes: ``detector``, a ``Detector``; of it ``cfg``, ``model``, ``class_names`` and
    ``category_ids``.

    Args:
        config_file, weights, opts: see :func:`load_detector`, with the errors.
    """

    def __init__(
        self, config_file: str, weights: str | Path | None = None, opts: Sequence[str] = ()
    ):
        self.detector = load_detector(config_file, weights, opts)
        self.cfg = self.detector.cfg
        self.model = self.detector.model
        self.class_names = self.detector.class_names
        self.category_ids = self.detector.category_ids

    @torch.no_grad()
    def __call__(self, pictures: Sequence[str | Path | np.ndarray]) -> list[Instances]:
        """Return one ``Instances`` per picture, as one batch, on the CPU.

        Each has ``pred_boxes`` (pixels of the picture, xyxy), ``scores`` (above the config's
        threshold, descending) and ``pred_classes``.

        Args:
            pictures: files, or images (H, W, 3), uint8, RGB.

        Raises:
            ValueError: see :func:`read_picture`; an array of another shape or type.
        """
        images = [x if isinstance(x, np.ndarray) else read_picture(x) for x in pictures]
        inputs = [self.network_input(image) for image in images]
        if not inputs:
            return []
        with evaluation_mode(self.model, self.detector.dtype) as model:
            return [x["instances"].to("cpu") for x in model(inputs)]

    def network_input(self, image: np.ndarray) -> dict:
        """Return what the model's forward takes of one image (H, W, 3), uint8, RGB."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"an image is (H, W, 3), uint8, RGB, not {image.shape}, {image.dtype}")
        if self.detector.image_format == "BGR":
            image = image[:, :, ::-1]
        height, width = image.shape[:2]
        shown = T.AugInput(np.ascontiguousarray(image))
        self.detector.augmentations(shown)
        pixels = torch.from_numpy(np.ascontiguousarray(shown.image.transpose(2, 0, 1)))
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
