"""Tables of registered datasets: of their COCO json, or of what their loader returns."""

import functools
from collections.abc import Sequence

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from focal_retina.data.checks.fields import NOT_STATED, Names, is_box
from focal_retina.data.checks.reading import read_table, table_of_sections
from focal_retina.data.checks.table import Table
from focal_retina.data.coco import CocoLoader, is_detectron2s
from focal_retina.data.voc import VocSplit


def table_of_dataset(name: str) -> Table | None:
    """Return the table of a registered dataset; raise a UserError if its json does not exist.

    Detectron2 also takes datasets of PyTorch, whose items may be anything. If the loader returns no
    list of records, there is no table.
    """
    metadata, loader = MetadataCatalog.get(name), DatasetCatalog[name]
    is_ours = isinstance(loader, CocoLoader)
    if is_ours or is_detectron2s(name):
        table = loader.take_table() if is_ours else read_table(metadata.json_file)
        source = f"{name} ({metadata.json_file})"
        return table._replace(source=source, image_root=metadata.image_root)
    if isinstance(loader, VocSplit):
        return table_of_voc(loader, name)
    records = _load_for_two(name)
    is_list = isinstance(records, list)
    return table_of_records(records, metadata.get("thing_classes"), name) if is_list else None


def _load_for_two(name: str) -> object:
    """Return what the loader of a dataset returns, and keep it for the next one who loads it.

    For a user's loader may take minutes: a function that hands over its result takes its place in
    Detectron2's catalog once.
    """
    loader = DatasetCatalog[name]
    records = loader()

    @functools.wraps(loader)
    def hand_over() -> object:
        DatasetCatalog[name] = loader
        return records

    DatasetCatalog[name] = hand_over
    return records


def table_of_voc(split: VocSplit, source: str) -> Table:
    """Return the table of a VOC split, with all that is wrong with its files."""
    names = Names(split.files.__getitem__, "class {}".format, split.objects.__getitem__)
    table = table_of_records(split.records, split.class_names, source, names)
    return table._replace(malformed=[*split.malformed, *table.malformed])


def table_of_records(
    records: Sequence[dict],
    class_names: Sequence[str] | None,
    source: str,
    names: Names | None = None,
) -> Table:
    """Return the table of what a dataset's loader returns; without class names, any class is right.

    Without ``names``, entries are called ``records[3].annotations[2]``. The ids of annotations
    count from 1, as Detectron2 numbers them for evaluation.
    """
    paths, annotations = [], []
    for i, record in enumerate(records):
        for j, annotation in enumerate(record.get("annotations", [])):
            paths.append(f"records[{i}].annotations[{j}]")
            annotations.append(_as_coco(len(paths), i, annotation))
    categories = dict(enumerate(class_names or ()))
    if class_names is None:
        used = {annotation["category_id"] for annotation in annotations}
        categories = {i: str(i) for i in sorted(x for x in used if type(x) is int)}
    unstated = {"width": NOT_STATED, "height": NOT_STATED}
    sections = {
        "images": [{**unstated, **record, "id": i} for i, record in enumerate(records)],
        "categories": [{"id": i, "name": name} for i, name in categories.items()],
        "annotations": annotations,
    }
    names = names or Names("records[{}]".format, "thing_classes[{}]".format, paths.__getitem__)
    table = table_of_sections(sections, names, [])
    return table._replace(source=source, image_root="")  # file names are paths


def _as_coco(annotation_id: int, image_id: int, annotation: dict) -> dict:
    """Return an annotation of a record as COCO's json has it."""
    box = annotation.get("bbox", "missing")
    box = box.tolist() if isinstance(box, np.ndarray) else box
    box = list(box) if isinstance(box, tuple) else box
    mode = annotation.get("bbox_mode", "missing")
    if is_box(box) and mode == BoxMode.XYXY_ABS:
        box = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    elif mode != BoxMode.XYWH_ABS:
        box = f"bbox {box} of bbox_mode {mode}"
    category = annotation.get("category_id", "missing")
    category = category.item() if isinstance(category, np.generic) else category
    ids = {"id": annotation_id, "image_id": image_id, "category_id": category}
    area = box[2] * box[3] if is_box(box) else 0
    return {**ids, "bbox": box, "iscrowd": annotation.get("iscrowd", 0), "area": area}
