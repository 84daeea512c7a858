"""A trained model on pictures, without a dataset."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.structures import Instances
from PIL import Image, ImageOps

from focal_retina.errors import ImageError
from focal_retina.evaluation.mode import evaluation_mode
from focal_retina.inference.detector import load_detector


class Predictor:
    """Detects objects in pictures, as the evaluation does.

    Attributes: ``detector``, a ``Detector``, and from it ``cfg``, ``model``, ``class_names`` and
    ``category_ids``. For arguments and errors see :func:`load_detector`.
    """

    def __init__(
        self,
        config_file: str,
        weights: str | Path | None = None,
        opts: Sequence[str] = (),
        *,
        trust_config: bool = False,
    ):
        self.detector = load_detector(config_file, weights, opts, trust_config=trust_config)
        self.cfg = self.detector.cfg
        self.model = self.detector.model
        self.class_names = self.detector.class_names
        self.category_ids = self.detector.category_ids

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
        with evaluation_mode(self.model, self.detector.dtype) as model:
            return [x["instances"].to("cpu") for x in model(inputs)]

    def network_input(self, image: np.ndarray) -> dict:
        """Return one image (H, W, 3), uint8, RGB, in the form that the model's forward takes."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"an image is (H, W, 3), uint8, RGB, not {image.shape}, {image.dtype}")
        height, width = image.shape[:2]
        if self.detector.image_format == "BGR":
            image = image[:, :, ::-1]
        aug_input = T.AugInput(np.ascontiguousarray(image))
        self.detector.augmentations(aug_input)
        pixels = torch.from_numpy(np.ascontiguousarray(aug_input.image.transpose(2, 0, 1)))
        return {"image": pixels, "height": height, "width": width}


def read_picture(path: str | Path) -> np.ndarray:
    """Return a picture as (H, W, 3), uint8, RGB, turned as its EXIF data says.

    Grey becomes RGB, transparency is dropped as in training, and 16-bit grey is scaled to 8 bits.

    Raises:
        ImageError: the file is missing or broken, or its pixels are no whole numbers.
    """
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
    # What Pillow raises for broken files and for those that are too large.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path} cannot be read: {error}") from error
    if image.mode == "F":
        raise ImageError(
            f"{path} cannot be read: its pixels are floating-point numbers of unknown range"
        )
    if image.mode.startswith("I"):  # Pillow would clip values above 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return np.array(image.convert("RGB"))
