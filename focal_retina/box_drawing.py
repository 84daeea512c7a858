"""Boxes and labels, drawn on the pixels of a picture."""

import functools
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Bright colours, which show on any picture and under black letters.
_COLORS = "ffe119 42d4f4 ff7f50 bfef45 ffb3d1 ffffff aaffc3 dcbeff"
COLORS = [tuple(bytes.fromhex(x)) for x in _COLORS.split()]


def draw_boxes(
    image: np.ndarray,
    boxes: Sequence[Sequence[float]],
    classes: Sequence[int],
    labels: Sequence[str] = (),
    font: str = "",
) -> None:
    """Draw n boxes on an image, (H, W, 3), uint8, RGB, in place; a later one covers an earlier.

    Args:
        boxes: pixels, xyxy.
        classes: from 0 on, of which each has a colour.
        labels: one line of text for each box, or none.
        font: file of the labels.
    """
    height, width = image.shape[:2]
    side = (height * width) ** 0.5
    thickness = max(2, round(side / 400))
    last = np.array([width, height, width, height]) - 1
    corners = np.nan_to_num(np.array(boxes, float).reshape(-1, 4)).clip(0, last).round()
    for i, (left, top, right, bottom) in enumerate(corners.astype(int).tolist()):
        color = COLORS[classes[i] % len(COLORS)]
        cv2.rectangle(image, (left, top), (right, bottom), color, thickness)
        if labels:
            _draw_label(image, left, top, labels[i], color, _font(font, max(13, round(side / 70))))


def _draw_label(
    image: np.ndarray,
    left: int,
    bottom: int,
    text: str,
    color: tuple[int, ...],
    font: ImageFont.FreeTypeFont,
) -> None:
    """Write black letters on a field of a colour, inside the image."""
    margin = font.size // 5
    width = min(round(font.getlength(text)) + 2 * margin, image.shape[1])
    height = min(sum(font.getmetrics()), image.shape[0])
    field = Image.new("RGB", (width, height), color)
    ImageDraw.Draw(field).text((margin, 0), text, "black", font)
    left, top = min(left, image.shape[1] - width), max(bottom - height, 0)
    image[top : top + height, left : left + width] = field


@functools.lru_cache(maxsize=8)
def _font(file: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)
