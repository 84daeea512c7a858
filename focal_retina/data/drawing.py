"""Drawn scenes: bright shapes over a textured background, with the box of what is visible.

Every random number comes from ``numpy.random.RandomState``, whose stream NumPy has frozen, and all
drawing is OpenCV's integer arithmetic, so that a seed gives the same pixels everywhere.
"""

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import RandomState

SIZE_RANGE = (0.12, 0.7)  # of an object before stretching, as a share of the image's side
EMPTY_SHARE = 0.04  # of the images has no object
MAX_OBJECTS = 20
MAX_HIDDEN = 0.25  # share of an object that a later one may hide; otherwise that is left out
MAX_TURN = 0.5  # of an object from upright, either way, radians
HUE_SPREAD = 0.35  # standard deviation, in distances between the hues of two classes
_SHIFT = 4  # sub-pixel bits of OpenCV's drawing coordinates


@dataclass(frozen=True)
class DrawnObject:
    """One visible object: its class index, and the box (x, y, w, h) of its pixels that are seen."""

    category: int
    bbox: tuple[int, int, int, int]


def _arc(start: float, stop: float, points: int = 72) -> np.ndarray:
    angles = np.radians(np.linspace(start, stop, points))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _cross() -> np.ndarray:
    arm, end = 0.33, 0.95
    quarter = np.array([(end, -arm), (end, arm), (arm, arm)])
    turn = np.array([(0, 1), (-1, 0)])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


# Contours of each class around the origin, radius about 1; a second contour is a hole.
SHAPES = {
    "ellipse": [_arc(0, 360)],
    "rectangle": [_arc(45, 315, 4)],
    "triangle": [_arc(-90, 150, 3)],
    "star": [_arc(-90, 234, 10) * np.where(np.arange(10) % 2, 0.45, 1.0)[:, None]],
    "ring": [_arc(0, 360), 0.55 * _arc(0, 360)],
    "cross": [_cross()],
}

CLASSES = tuple(SHAPES)


def draw_scene(random: RandomState, side: int) -> tuple[np.ndarray, list[DrawnObject]]:
    """Draw one image; return it (side, side, 3, uint8, BGR) with its objects, largest first."""
    image = _background(random, side)
    # owner[y, x] is the index of the object seen there, -1 for the background
    owner = np.full((side, side), -1, dtype=np.int16)
    areas, seen = np.zeros((2, MAX_OBJECTS), dtype=np.int64)
    categories = []
    for size in _object_sizes(random, side):
        category = random.randint(len(CLASSES))
        window, mask, rim = _rasterize(_place(random, CLASSES[category], size, side), size, side)
        covers = mask > 127
        hidden = np.bincount(owner[window][covers] + 1, minlength=MAX_OBJECTS + 1)[1:]
        if not covers.any() or np.any(seen - hidden < (1 - MAX_HIDDEN) * areas):
            continue
        owner[window][covers] = index = len(categories)
        areas[index] = np.count_nonzero(covers)
        seen[index] = areas[index]
        seen -= hidden
        categories.append(category)
        color = _vivid_color(random, category)
        _blend(image[window], color, mask)
        _blend(image[window], color // 2, rim)
    noise = random.randint(-6, 7, size=(side, side, 1), dtype=np.int16).repeat(3, axis=2)
    image = cv2.add(image, noise, dtype=cv2.CV_8U)
    objects = []
    for i, category in enumerate(categories):
        box = cv2.boundingRect((owner == i).astype(np.uint8))
        objects.append(DrawnObject(category, tuple(box)))
    return image, objects


def _object_sizes(random: RandomState, side: int) -> np.ndarray:
    """Sides of 0 to 20 objects, log-uniform, in pixels, largest first; many means smaller ones."""
    count = 0 if random.uniform() < EMPTY_SHARE else random.randint(1, MAX_OBJECTS + 1)
    low, high = SIZE_RANGE
    high = min(high, 1.8 / max(count, 1) ** 0.5)
    return np.sort(side * np.exp(random.uniform(np.log(low), np.log(high), size=count)))[::-1]


def _place(random: RandomState, name: str, size: float, side: int) -> list[np.ndarray]:
    """Contours in pixels of a shape, stretched, turned and set at a random place."""
    stretch = np.exp(random.uniform(-0.3, 0.3))
    angle = random.uniform(-MAX_TURN, MAX_TURN)
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    center = random.uniform(0.35 * size, side - 0.35 * size, size=2)
    scale = size / 2 * np.array([stretch, 1 / stretch])
    return [contour * scale @ turn + center for contour in SHAPES[name]]


def _rasterize(contours: list[np.ndarray], size: float, side: int):
    """The window that holds the shape, and in it the coverage (uint8) of the shape and its rim."""
    width = max(1, round(size / 40))
    low = np.floor(contours[0].min(axis=0)).astype(int) - width - 1
    high = np.ceil(contours[0].max(axis=0)).astype(int) + width + 2
    (x0, y0), (x1, y1) = low.clip(0, side), high.clip(0, side)
    points = [np.round((c - (x0, y0)) * (1 << _SHIFT)).astype(np.int32) for c in contours]
    mask, rim = np.zeros((2, y1 - y0, x1 - x0), dtype=np.uint8)
    cv2.fillPoly(mask, points, 255, cv2.LINE_AA, _SHIFT)
    cv2.polylines(rim, points, True, 255, width, cv2.LINE_AA, _SHIFT)
    return (slice(y0, y1), slice(x0, x1)), np.maximum(mask, rim), rim


def _blend(image: np.ndarray, color: np.ndarray, mask: np.ndarray) -> None:
    """Paint ``color`` (3,) over ``image`` (H, W, 3, uint8) in place where ``mask`` covers it."""
    alpha = mask[..., None].astype(np.uint16)
    image[:] = (image * (255 - alpha) + color * alpha) // 255


def _vivid_color(random: RandomState, category: int) -> np.ndarray:
    """Return a colour (3,) around the hue of a class, at times nearer to another's."""
    hue = (category + random.normal(0, HUE_SPREAD)) / len(CLASSES) % 1
    hsv = (hue, *random.uniform((0.3, 0.75), (1, 1)))
    return np.round(255 * np.array(colorsys.hsv_to_rgb(*hsv))).astype(np.uint16)


def _background(random: RandomState, side: int) -> np.ndarray:
    """A muted colour under clouds, stripes or checks, and a few thin lines."""
    hsv = random.uniform((0, 0, 0.15), (1, 0.3, 0.45))
    base = np.round(255 * np.array(colorsys.hsv_to_rgb(*hsv))).astype(np.int16)
    image = np.clip(base + (_clouds(random, side) + _tiles(random, side))[..., None], 0, 255)
    image = image.astype(np.uint8)
    for _ in range(random.randint(0, 7)):
        start, stop = random.randint(0, side, size=(2, 2)).tolist()
        cv2.line(image, start, stop, random.randint(0, 256, size=3).tolist(), 1, cv2.LINE_AA)
    return image


def _clouds(random: RandomState, side: int) -> np.ndarray:
    cells = random.randint(2, 12)
    grid = random.randint(0, 256, size=(cells, cells)).astype(np.uint8)
    # the one interpolation that OpenCV promises to be the same everywhere
    clouds = cv2.resize(grid, (side, side), interpolation=cv2.INTER_LINEAR_EXACT)
    return (clouds.astype(np.int16) - 128) * np.int16(random.randint(12, 40)) // 128


def _tiles(random: RandomState, side: int) -> np.ndarray:
    """Stripes or checks in a random direction."""
    x, y = np.arange(side, dtype=np.int32), np.arange(side, dtype=np.int32)[:, None]
    a, b = random.randint(-8, 9, size=2).tolist()
    period = random.randint(side // 2, 2 * side)
    stripes = (a * x + b * y) // period
    if random.randint(2):
        stripes += (b * x - a * y) // period
    return (stripes % 2 * random.randint(0, 24)).astype(np.int16)
