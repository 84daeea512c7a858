"""What a training run shows in TensorBoard: anchor statistics and pictures."""

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor

from focal_retina.box_drawing import draw_boxes
from focal_retina.detectron2_internals import num_pending_images

if TYPE_CHECKING:
    from focal_retina.modeling.assignment import Assignment

logger = logging.getLogger(__name__)


class TrainingMonitor:
    """Write scalars each iteration and pictures each ``vis_period`` iterations.

    Scalars: "num_pos_anchors", foreground anchors per image (Detectron2's name), and
    "num_unmatched_objects", objects per image that no anchor is matched with. The first time there
    are such objects, a warning names their image.

    Args:
        vis_period: iterations between pictures; 0 for none.
        input_format: order of the image's channels.
    """

    # Writers take the pictures out of the storage; without a writer they must not pile up.
    MAX_PENDING_IMAGES = 8
    MAX_BOXES = 20  # anchors and predictions that are drawn

    def __init__(self, vis_period: int = 0, input_format: str = "BGR"):
        self.vis_period, self.input_format = vis_period, input_format
        self._warned = False

    def write_scalars(self, assignment: "Assignment", batched_inputs: list[dict]) -> None:
        """Write the counts of an ``Assignment``, and warn once about unmatched objects."""
        counts = torch.stack([assignment.num_foreground, assignment.num_unmatched])
        foreground, unmatched = counts.tolist()
        storage = get_event_storage()
        storage.put_scalar("num_pos_anchors", sum(foreground) / len(foreground))
        storage.put_scalar("num_unmatched_objects", sum(unmatched) / len(unmatched))
        if any(unmatched) and not self._warned:
            self._warned = True
            image = next(i for i, count in enumerate(unmatched) if count)
            logger.warning(
                "No anchor is matched with %d object(s) of image %s: they are not learned. If that "
                "is common (see num_unmatched_objects), fit the anchors to the objects: "
                "python -m focal_retina.tools.analyze_anchors proposes sizes and aspect ratios.",
                unmatched[image],
                batched_inputs[image].get("file_name", f"number {image} of the batch"),
            )

    def wants_picture(self) -> bool:
        """Return whether to draw a picture in this iteration."""
        return self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0

    def write_picture(
        self, inputs: dict, anchors: Tensor, assignment: "Assignment", detections: Instances
    ) -> None:
        """Draw the first image three times: with objects, with matched anchors, with predictions.

        Args:
            inputs: the dict of the batch's first image.
            anchors: (R, 4), pixels, xyxy.
            assignment: of the batch.
            detections: of the first image, by descending score.
        """
        image = convert_image_to_rgb(inputs["image"].permute(1, 2, 0), self.input_format)
        matched = anchors[assignment.anchor_idxs[assignment.image_idxs == 0]]
        drawn = (
            inputs["instances"].gt_boxes,
            # Evenly over all of them.
            Boxes(matched[:: max(1, -(-len(matched) // self.MAX_BOXES))]),
            detections.pred_boxes[: self.MAX_BOXES],
        )
        rows = [_draw_boxes(image, boxes) for boxes in drawn]
        storage = get_event_storage()
        if num_pending_images(storage) >= self.MAX_PENDING_IMAGES:
            storage.clear_images()
        name = f"objects; matched anchors; predictions (at most {self.MAX_BOXES} of each)"
        storage.put_image(name, np.vstack(rows).transpose(2, 0, 1))


def _draw_boxes(image: np.ndarray, boxes: Boxes) -> np.ndarray:
    image = image.astype(np.uint8, order="C")
    draw_boxes(image, boxes.tensor.tolist(), range(len(boxes)))
    return image
