"""The objects of datasets as training has them: resized, clipped, without crowds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.datasets import load_coco_json
from detectron2.structures import BoxMode
from torch import Tensor

from focal_retina.data.coco import is_detectron2s
from focal_retina.errors import UserError


@dataclass(frozen=True)
class Objects:
    """G objects of N images."""

    boxes: Tensor  # (G, 4) float32, pixels of the network's input, xyxy
    areas: Tensor  # (G,) float64, of the boxes in pixels of the image file, squared
    image_idxs: Tensor  # (G,) int64, ascending
    annotation_ids: list[object]  # G; "number 3" of its image if the dataset states no id
    image_sizes: Tensor  # (N, 2) int64, height and width of the network's input, unpadded
    file_names: list[str]  # N
    num_crowds: int  # annotations that are left out because they are crowds
    num_empty: int  # others that are left out because their box has no area inside the image

    def __len__(self) -> int:
        return len(self.boxes)

    def sample(self, count: int, seed: int) -> "Objects":
        """Return at most ``count`` objects, drawn at random, of the same images."""
        return self.select(_sample(torch.arange(len(self)), count, seed))

    def sample_images(self, count: int, seed: int) -> Tensor:
        """Return the indices of at most ``count`` images with objects, drawn at random."""
        return _sample(self.image_idxs.unique(), count, seed)

    def select(self, kept: Tensor) -> "Objects":
        """Return the objects of these indices, of the same images."""
        per_object = {name: getattr(self, name)[kept] for name in ("boxes", "areas", "image_idxs")}
        ids = [self.annotation_ids[i] for i in kept.tolist()]
        return replace(self, annotation_ids=ids, **per_object)


def _sample(values: Tensor, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    kept = torch.randperm(len(values), generator=generator)[:count]
    return values[kept.sort().values]


def load_objects(dataset_names: Sequence[str], resize: T.Augmentation) -> Objects:
    """Return the objects of registered datasets, each image resized once, as in training.

    A UserError names a file without size, or with a box that is not four numbers.
    """
    records = [record for name in dataset_names for record in _records(name)]
    old, new = _image_sizes(records, resize)
    of_images = [record.get("annotations", ()) for record in records]
    annotations = [x for of_image in of_images for x in of_image]
    image_idxs = np.repeat(np.arange(len(records)), [len(of_image) for of_image in of_images])
    boxes = _corners(annotations, lambda i: records[image_idxs[i]]["file_name"])
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    # The rest is what DatasetMapper does: scale, clip, drop crowds and boxes without area.
    scales, limits = (np.tile(x[image_idxs, ::-1], 2) for x in (new / old, new))
    boxes = boxes * scales
    # Detectron2 scales a box of whole numbers in integers.
    is_whole = [all(isinstance(v, int) for v in x["bbox"]) for x in annotations]
    boxes[is_whole] = np.trunc(boxes[is_whole])
    boxes = torch.from_numpy(boxes.clip(0, limits).astype(np.float32))
    is_crowd = torch.tensor([x.get("iscrowd", 0) != 0 for x in annotations], dtype=torch.bool)
    has_area = (boxes[:, 2:] - boxes[:, :2] > 1e-5).all(1)
    everything = Objects(
        boxes=boxes,
        areas=torch.from_numpy(areas),
        image_idxs=torch.from_numpy(image_idxs),
        annotation_ids=[
            x.get("id", f"number {number}")
            for of_image in of_images
            for number, x in enumerate(of_image, 1)
        ],
        image_sizes=torch.from_numpy(new),
        file_names=[record["file_name"] for record in records],
        num_crowds=int(is_crowd.sum()),
        num_empty=int((~is_crowd & ~has_area).sum()),
    )
    return everything.select((~is_crowd & has_area).nonzero().squeeze(1))


def _records(name: str) -> list[dict]:
    """Return a dataset in Detectron2's format, with the ids of COCO's annotations."""
    metadata = MetadataCatalog.get(name)
    if is_detectron2s(name):  # its loader leaves the ids out
        return load_coco_json(metadata.json_file, metadata.image_root, name, ["id"])
    return DatasetCatalog.get(name)


def _image_sizes(records: list[dict], resize: T.Augmentation) -> tuple[np.ndarray, np.ndarray]:
    """Return the images' heights and widths, (N, 2), int64, in the file and resized."""
    old, new = [], []
    for record in records:
        height, width = size = record.get("height", 0), record.get("width", 0)
        if min(size) <= 0:
            raise UserError(f"{record['file_name']}: the dataset states no height and width")
        # An image of that size that takes no memory.
        transform = resize.get_transform(np.broadcast_to(np.uint8(0), size))
        [[new_width, new_height]] = transform.apply_coords(np.array([[width, height]], dtype=float))
        old.append(size)
        new.append((round(new_height), round(new_width)))
    return np.array(old).reshape(-1, 2), np.array(new).reshape(-1, 2)


def _corners(annotations: list[dict], file_name: Callable[[int], str]) -> np.ndarray:
    """Return the boxes, (G, 4), float64, pixels of the file, xyxy with ascending corners."""
    boxes = [x.get("bbox") for x in annotations]
    wrong = next((i for i, box in enumerate(boxes) if np.shape(box) != (4,)), None)
    if wrong is not None:
        raise UserError(f"{file_name(wrong)}: a box is four numbers, not {boxes[wrong]!r}")
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    modes = np.array([x["bbox_mode"] for x in annotations])
    for mode in np.unique(modes):
        of_mode = torch.from_numpy(boxes[modes == mode])
        boxes[modes == mode] = BoxMode.convert(of_mode, BoxMode(mode), BoxMode.XYXY_ABS).numpy()
    return np.sort(boxes.reshape(-1, 2, 2), axis=1).reshape(-1, 4)
