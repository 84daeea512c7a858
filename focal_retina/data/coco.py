"""COCO json as a dataset of Detectron2."""

import os

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.utils.file_io import PathManager

from focal_retina.data.checks.reading import read_table
from focal_retina.data.checks.table import Table
from focal_retina.errors import UserError


class CocoLoader:
    """Load a registered COCO json in Detectron2's format.

    The table that the registration has read stays here for the check at the start of a training,
    so that a large file is read once, until somebody takes it or loads the dataset.
    """

    def __init__(self, name: str, json_file: str, image_root: str, table: Table):
        self._arguments = json_file, image_root, name
        self._table: Table | None = table

    def __call__(self) -> list[dict]:
        self._table = None
        return load_coco_json(*self._arguments)

    def take_table(self) -> Table:
        """Return the table and forget it; if it has been forgotten, read it anew."""
        table, self._table = self._table, None
        return table or read_table(self._arguments[0])


def is_coco_json(name: str) -> bool:
    """Return whether a registered dataset is COCO json, registered by Detectron2 or by us."""
    loader = DatasetCatalog[name]
    is_detectron2s = loader.__module__ == register_coco_instances.__module__
    return is_detectron2s or isinstance(loader, CocoLoader)


def register_coco(name: str, json_file: str, image_root: str, has_images: bool = True) -> None:
    """Register COCO json with the names of its classes, in the order of their ids.

    A UserError says that it is missing or malformed, or does not fit the image folder.
    """
    table = read_table(json_file)
    if table.malformed:
        raise UserError(
            f"dataset {name}: {json_file} is not COCO json: {table.malformed[0]}; all of it "
            f"is listed by: python -m focal_retina.tools.check_dataset --json {json_file}"
        )
    classes = dict(zip(table.categories.ids, table.categories.names, strict=True))
    if unknown := set(table.annotations.category_ids) - classes.keys():
        raise UserError(
            f"dataset {name}: {json_file} has objects of category {unknown.pop()}, which its "
            "categories lack"
        )
    # One tells a wrong folder; to look for all of them takes minutes on a network drive.
    first = os.path.join(image_root, table.images.file_names[0])
    if has_images and not PathManager.isfile(first):
        raise UserError(f"dataset {name}: {first}, which {json_file} names, does not exist")
    DatasetCatalog.register(name, CocoLoader(name, json_file, image_root, table))
    MetadataCatalog.get(name).set(
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        thing_classes=[classes[i] for i in sorted(classes)],
        thing_dataset_id_to_contiguous_id={x: i for i, x in enumerate(sorted(classes))},
    )
