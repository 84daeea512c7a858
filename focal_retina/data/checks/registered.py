"""Tables of registered datasets: from their COCO json, else from what their loader returns."""

import functools

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from focal_retina.data.checks.reading import read_table
from focal_retina.data.checks.records import table_of_records
from focal_retina.data.checks.table import Table


def table_of_dataset(name: str) -> Table | None:
    """Return the table of a registered dataset.

    None for one that its loader does not return as a list of records: Detectron2 takes datasets of
    PyTorch, too, whose items may be anything.

    Raises:
        ValueError: its json does not exist.
    """
    metadata, loader = MetadataCatalog.get(name), DatasetCatalog[name]
    if getattr(loader, "__module__", None) == register_coco_instances.__module__:
        json_file = metadata.json_file
        return read_table(json_file, metadata.image_root, f"{name} ({json_file})")
    records = _load_once(name)
    if not isinstance(records, list):
        return None
    return table_of_records(records, metadata.get("thing_classes"), name)


def _load_once(name: str) -> object:
    """Load a dataset, and let the next one who loads it have the result.

    A loader of the user's own may take minutes, which training should not wait for twice.
    """
    loader = DatasetCatalog[name]
    records = loader()

    @functools.wraps(loader)
    def hand_over():
        DatasetCatalog[name] = loader
        return records

    DatasetCatalog[name] = hand_over
    return records
