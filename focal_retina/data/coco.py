"""COCO json as a dataset of Detectron2."""

import os

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

from focal_retina.data.checks.entries import unknown_categories
from focal_retina.data.checks.reading import read_table
from focal_retina.data.checks.table import Table, repeats
from focal_retina.data.file_names import file_meant
from focal_retina.data.garbage_collection import paused_gc
from focal_retina.errors import UserError


class CocoLoader:
    """Load a registered COCO json in Detectron2's format.

    The table that the registration has read stays here for the check at the start of a training,
    so that a large file is read once, until somebody takes it or loads the dataset.
    """

    def __init__(self, name: str, json_file: str, image_root: str, table: Table, boxes_only: bool):
        self._arguments = json_file, image_root, name
        self._table: Table | None = table
        self.boxes_only = boxes_only

    def __call__(self) -> list[dict]:
        """Return the records; annotations have their id, besides what Detectron2 keeps."""
        if not self.boxes_only:
            self._table = None
            return load_coco_json(*self._arguments, ["id"])
        with paused_gc():
            return _box_records(self.take_table(), self._arguments[1])

    def take_table(self) -> Table:
        """Return the table and forget it; if it has been forgotten, read it anew."""
        table, self._table = self._table, None
        return table or read_table(self._arguments[0], boxes_only=self.boxes_only)


def _labels(table: Table) -> dict:
    """Return the number of each class, by its id; Detectron2 counts in the order of the ids."""
    return {x: i for i, x in enumerate(sorted(table.categories.ids))}


def _box_records(table: Table, image_root: str) -> list[dict]:
    """Return what ``load_coco_json`` returns of a json without segmentations and keypoints."""
    found, labels = table.annotations, _labels(table)
    records = {
        image_id: {
            "file_name": os.path.join(image_root, file_name),
            "height": int(height),
            "width": int(width),
            "image_id": image_id,
            "annotations": [],
        }
        for image_id, file_name, (width, height) in zip(*table.images, strict=True)
    }
    for i, (box, image_id) in enumerate(zip(found.boxes.tolist(), found.image_ids, strict=True)):
        if image_id not in records:
            continue
        annotation = {
            # Detectron2 scales a box of whole numbers in integers.
            "bbox": [*map(int, box)] if found.is_whole[i] else box,
            "category_id": labels[found.category_ids[i]],
            "bbox_mode": BoxMode.XYWH_ABS,
            "id": found.ids[i],
        }
        if not found.lacks_crowd_flag[i]:
            annotation["iscrowd"] = int(found.is_crowd[i])
        records[image_id]["annotations"].append(annotation)
    return [records[image_id] for image_id in sorted(records)]


def is_detectron2s(name: str) -> bool:
    """Return whether Detectron2 registered a dataset as COCO json."""
    return DatasetCatalog[name].__module__ == register_coco_instances.__module__


def register_coco(
    name: str, json_file: str, image_root: str, *, boxes_only: bool, has_images: bool = True
) -> None:
    """Register COCO json with the names of its classes, in the order of their ids.

    Args:
        boxes_only: leave segmentations and keypoints alone, whatever they are.
        has_images: the images must be there, and not the annotations alone.

    Raises:
        UserError: it is missing or malformed, or does not fit the image folder.
    """
    table = read_table(json_file, boxes_only=boxes_only)
    if wrong := _why_not(table):
        raise UserError(
            f"dataset {name}: {json_file} {wrong}; all of it is listed by: "
            f"python -m focal_retina.tools.check_dataset --json {json_file}"
        )
    classes = dict(zip(table.categories.ids, table.categories.names, strict=True))
    # One tells a wrong folder; to look for all of them takes minutes on a network drive.
    first = os.path.join(image_root, table.images.file_names[0])
    if has_images and not PathManager.isfile(first):
        raise UserError(
            f"dataset {name}: {first}, which {json_file} names, does not exist{file_meant(first)}"
        )
    DatasetCatalog.register(name, CocoLoader(name, json_file, image_root, table, boxes_only))
    MetadataCatalog.get(name).set(
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        thing_classes=[classes[i] for i in sorted(classes)],
        thing_dataset_id_to_contiguous_id=_labels(table),
    )


def _why_not(table: Table) -> str | None:
    """Return why a table cannot be registered, None if it can."""
    if table.malformed:
        return f"is not COCO json: {table.malformed[0]}"
    if unknown := unknown_categories(table):
        note = f" ({unknown[0].note})" if unknown[0].note else ""
        return f"has objects of category {unknown[0].value!r}, which its categories lack{note}"
    twice = [table.categories.ids[i] for i, _ in repeats(table.categories.ids)]
    return f"has two categories of the id {twice[0]!r}" if twice else None
