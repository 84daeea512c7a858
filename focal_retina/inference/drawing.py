"""Pictures of a run: detections, several images side by side, and loss curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.structures import Instances
from torchvision.utils import make_grid

from focal_retina.box_drawing import draw_boxes
from focal_retina.files import output
from focal_retina.terminal import printable


def draw_detections(
    image: np.ndarray, instances: Instances, class_names: Sequence[str], font: str
) -> np.ndarray:
    """Return an image, (H, W, 3), uint8, RGB, with a box, a class and a score per detection.

    ``font`` is a file, see ``label_font``.
    """
    # Large boxes come first, so that they do not cover the labels of small ones.
    instances = instances[instances.pred_boxes.area().argsort(descending=True).tolist()]
    classes = instances.pred_classes.tolist()
    names = (" ".join(printable(class_names[i]).split()) for i in classes)
    scores = instances.scores.tolist()
    labels = [f"{name} {score:.0%}" for name, score in zip(names, scores, strict=True)]
    drawn = image.copy()
    draw_boxes(drawn, instances.pred_boxes.tensor.tolist(), classes, labels, font)
    return drawn


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write an image, (H, W, 3), uint8, RGB, as its name says; UserError if it cannot be."""
    # In memory: OpenCV crashes at names that are not UTF-8, and hides why a disk refuses a file.
    _, content = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    with output(path) as unfinished, open(unfinished, "wb") as file:
        file.write(content)


def write_grid(path: Path, images: Sequence[np.ndarray], columns: int) -> None:
    """Write images of one size, (H, W, 3), uint8, RGB, row by row into one white picture."""
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    grid = make_grid(stacked, columns, padding=8, pad_value=255).permute(1, 2, 0)
    write_picture(path, grid.numpy())


def write_curves(path: Path, curves: Mapping[str, Sequence[float]]) -> None:
    """Write a picture of values per iteration by name, with their means of 20 iterations."""
    from matplotlib.figure import Figure  # takes a while, and tools should start fast

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (name, values) in enumerate(curves.items()):
        window = min(20, len(values))
        means = np.convolve(values, np.full(window, 1 / window), mode="valid")
        axes.semilogy(values, color=f"C{number}", alpha=0.2, linewidth=0.8)
        axes.semilogy(np.arange(window - 1, len(values)), means, color=f"C{number}", label=name)
    axes.set(xlabel="iteration", ylabel="loss", xlim=(0, None))
    axes.yaxis.set(major_formatter="{x:g}", minor_formatter="{x:g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    with output(path) as unfinished:
        figure.savefig(unfinished, dpi=120)
