"""Pictures of a run: detections, several images side by side, and loss curves.

matplotlib and Detectron2's Visualizer are imported when something is drawn: that takes a while,
and tools should start fast.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.structures import Instances
from torchvision.utils import make_grid

# Bright colours, which show on any picture.
_BOX_COLORS = "#ffe119 #42d4f4 #ff7f50 #bfef45 #ffb3d1 #ffffff #aaffc3 #dcbeff".split()


def draw_detections(
    image: np.ndarray,
    instances: Instances,
    class_names: Sequence[str],
    scale: float = 2.5,
    font_size: float = 4,
) -> np.ndarray:
    """Return an image, (H, W, 3), uint8, RGB, with a box, a class and a score per detection.

    Args:
        scale: factor by which the image is enlarged.
        font_size: of the labels, in points before enlarging.
    """
    from detectron2.utils.visualizer import Visualizer
    from matplotlib.colors import to_rgb

    visualizer = Visualizer(image, scale=scale)
    label_height = 1.75 * font_size  # pixels
    # Large boxes come first, so that they do not cover the labels of small ones.
    for index in instances.pred_boxes.area().argsort(descending=True).tolist():
        category = int(instances.pred_classes[index])
        box = instances.pred_boxes.tensor[index].tolist()
        color = to_rgb(_BOX_COLORS[category % len(_BOX_COLORS)])
        visualizer.draw_box(box, alpha=1.0, edge_color=color)
        label = f"{class_names[category]} {float(instances.scores[index]):.0%}"
        above = (box[0], max(box[1] - label_height, 0))
        visualizer.draw_text(
            label, above, font_size=font_size, color=color, horizontal_alignment="left"
        )
    return visualizer.output.get_image()


def write_grid(path: Path, images: Sequence[np.ndarray], columns: int) -> None:
    """Write images of one size, (H, W, 3), uint8, RGB, row by row into one white picture."""
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    grid = make_grid(stacked, columns, padding=8, pad_value=255).permute(1, 2, 0)
    cv2.imwrite(str(path), grid.numpy()[:, :, ::-1])


def write_curves(path: Path, curves: Mapping[str, Sequence[float]]) -> None:
    """Write a picture of values per iteration by name, with their means of 20 iterations."""
    from matplotlib.figure import Figure

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
    figure.savefig(path, dpi=120)
