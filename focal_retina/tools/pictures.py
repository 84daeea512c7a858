"""Pictures of a run: detections side by side, and the loss curve."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from detectron2.structures import Instances
from detectron2.utils.visualizer import Visualizer
from matplotlib import colormaps
from matplotlib.figure import Figure

_COLORS = colormaps["tab10"].colors


def draw_detections(
    image: np.ndarray, instances: Instances, class_names: Sequence[str], scale: float = 2.5
) -> np.ndarray:
    """Return an enlarged image with a labelled box per detection, in the colour of its class.

    Args:
        image: (H, W, 3), uint8, RGB.
        instances: ``pred_boxes`` in the image's pixels, ``scores`` and ``pred_classes``.
        class_names: of the class indices.
        scale: by how much to enlarge.
    """
    classes = instances.pred_classes.tolist()
    scores = instances.scores.tolist()
    visualizer = Visualizer(image, scale=scale)
    drawn = visualizer.overlay_instances(
        boxes=instances.pred_boxes.to("cpu"),
        labels=[f"{class_names[c]} {s:.0%}" for c, s in zip(classes, scores, strict=True)],
        assigned_colors=[_COLORS[c % len(_COLORS)] for c in classes],
    )
    return drawn.get_image()


def write_grid(path: str | Path, images: Sequence[np.ndarray], columns: int, gap: int = 8) -> None:
    """Write images of one size, (H, W, 3), uint8, RGB, as one picture, row by row, on white."""
    height, width = (side + gap for side in images[0].shape[:2])
    rows = -(-len(images) // columns)
    grid = np.full((rows * height + gap, columns * width + gap, 3), 255, dtype=np.uint8)
    for index, image in enumerate(images):
        y, x = (index // columns) * height + gap, (index % columns) * width + gap
        grid[y : y + height - gap, x : x + width - gap] = image
    cv2.imwrite(str(path), grid[:, :, ::-1])


def write_curves(path: str | Path, curves: Mapping[str, Iterable[float]], smooth: int = 20) -> None:
    """Write a picture of per-iteration values: each raw and as its running mean.

    Args:
        curves: values by name, one per iteration from the first on.
        smooth: iterations in the mean.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for color, (name, values) in zip(_COLORS, curves.items(), strict=False):
        values = np.asarray(list(values))
        window = min(smooth, len(values))
        means = np.convolve(values, np.full(window, 1 / window), mode="valid")
        axes.plot(values, color=color, alpha=0.2, linewidth=0.8)
        axes.plot(np.arange(window - 1, len(values)), means, color=color, label=name)
    axes.set(xlabel="iteration", ylabel="loss", xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
