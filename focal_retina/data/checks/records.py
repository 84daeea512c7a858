"""Tables of datasets that are no COCO json: from what their loader returns."""

from collections.abc import Sequence

import numpy as np
from detectron2.structures import BoxMode

from focal_retina.data.checks.columns import table_of_sections
from focal_retina.data.checks.fields import Names, is_box
from focal_retina.data.checks.table import Table


def table_of_records(
    records: Sequence[dict], class_names: Sequence[str] | None, source: str
) -> Table:
    """Return the table of records in Detectron2's format.

    Entries are named by their places, such as ``records[3].annotations[2]``; ids count from 1,
    as Detectron2 gives them for evaluation.

    Args:
        class_names: None where the dataset states none, and any class is right.
    """
    numbered = [
        (f"records[{i}].annotations[{j}]", i, annotation)
        for i, record in enumerate(records)
        for j, annotation in enumerate(record.get("annotations", []))
    ]
    annotations = [_as_coco(i + 1, *entry) for i, (_, *entry) in enumerate(numbered)]
    if class_names is None:
        used = {annotation["category_id"] for annotation in annotations}
        class_names = {i: str(i) for i in sorted(x for x in used if type(x) is int)}
    else:
        class_names = dict(enumerate(class_names))
    sections = {
        "images": [{**record, "id": i} for i, record in enumerate(records)],
        "categories": [{"id": i, "name": name} for i, name in class_names.items()],
        "annotations": annotations,
    }
    paths = [path for path, _, _ in numbered]
    names = Names("records[{}]".format, "thing_classes[{}]".format, paths.__getitem__)
    table = table_of_sections(sections, names, [], sizes_are_optional=True)
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
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category.item() if isinstance(category, np.generic) else category,
        "bbox": box,
        "iscrowd": annotation.get("iscrowd", 0),
        "area": 0,
    }
