"""The user's own datasets, declared in a config instead of registered in Python."""

import copy
import logging
import os
from collections.abc import Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.utils.file_io import PathManager

from focal_retina.data.checks.reading import read_table
from focal_retina.data.voc import load_voc, voc_classes

logger = logging.getLogger(__name__)

# Detectron2's default of MODEL.RETINANET.NUM_CLASSES: what a config has that does not set it.
_DEFAULT_NUM_CLASSES = 80


def register_datasets(entries: Sequence[Sequence[str]]) -> None:
    """Register datasets with their class names; the same one again does no harm.

    Args:
        entries: each ``[name, COCO json, image folder]`` or ``[name, "voc", VOC folder, split]``;
            paths are absolute or relative to the working directory. The folder of a VOC dataset
            has ``Annotations``, ``ImageSets/Main/<split>.txt`` and ``JPEGImages``; its classes are
            those found in ``Annotations``, and it is evaluated with COCO's metrics.

    Raises:
        ValueError: a malformed entry, a missing or malformed file, another dataset of that name.
    """
    for entry in entries:
        match entry:
            case [str(name), "voc", str(folder), str(split)]:
                _register_voc(name, folder, split)
            case [str(name), str(json_file), str(image_root)]:
                _register_coco(name, json_file, image_root)
            case _:
                raise ValueError(
                    "a dataset is declared as [name, COCO json, image folder] or "
                    f"[name, 'voc', VOC folder, split], not as {entry!r}"
                )


def agree_on_classes(key: str, num_classes: int, names: Sequence[str]) -> int:
    """Return the number of classes of the datasets, logging a line where that is a change.

    Args:
        key: what the config calls the number.
        num_classes: the config's value; 80, Detectron2's default, counts as not set.
        names: registered datasets; those that do not state their classes have no say.

    Raises:
        ValueError: two datasets have different classes, or the config contradicts them.
    """
    stated = {name: MetadataCatalog.get(name).get("thing_classes") for name in names}
    stated = {name: list(classes) for name, classes in stated.items() if classes is not None}
    if not stated:
        return num_classes
    (first, classes), *others = stated.items()
    for other, other_classes in others:
        if other_classes != classes:
            raise ValueError(
                f"datasets used together need the same classes, but {_summary(first, classes)} "
                f"and {_summary(other, other_classes)}"
            )
    if num_classes not in (len(classes), _DEFAULT_NUM_CLASSES):
        raise ValueError(
            f"{key} is {num_classes}, but {_summary(first, classes)}: leave {key} out, "
            f"or set it to {len(classes)}"
        )
    if num_classes != len(classes):
        logger.info(f"{key} becomes {len(classes)}: {_summary(first, classes)}")
    return len(classes)


def class_names(names: Sequence[str]) -> list[str] | None:
    """Return the class names of the first of these registered datasets that states them."""
    stated = (MetadataCatalog.get(name).get("thing_classes") for name in names)
    return next((list(classes) for classes in stated if classes is not None), None)


def _summary(name: str, classes: list[str]) -> str:
    source = MetadataCatalog.get(name).get("json_file")
    shown = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
    noun = "class" if len(classes) == 1 else "classes"
    origin = f" ({source})" if source else ""
    return f"{name}{origin} has {len(classes)} {noun} ({shown})"


def _is_registered(name: str, **metadata: str) -> bool:
    """Whether this very dataset is; raises ValueError where another one has its name."""
    if name not in DatasetCatalog:
        return False
    for key, value in metadata.items():
        found = MetadataCatalog.get(name).get(key)
        if found != value:
            raise ValueError(
                f"dataset {name}: {key} is {value}, but a dataset of this name is already "
                f"registered with {found}; choose another name"
            )
    return True


def _register_coco(name: str, json_file: str, image_root: str) -> None:
    if not _is_registered(name, json_file=json_file, image_root=image_root):
        classes = _coco_classes(name, json_file, image_root)
        register_coco_instances(name, {"thing_classes": classes}, json_file, image_root)


def _coco_classes(name: str, json_file: str, image_root: str) -> list[str]:
    """Return the class names in the order of their ids, if json and folder hold together."""
    if not PathManager.isfile(json_file):
        raise ValueError(f"dataset {name}: the COCO json {json_file} does not exist")
    table = read_table(json_file)
    if table.malformed:
        raise ValueError(
            f"dataset {name}: {json_file} is not COCO json: {table.malformed[0]}; all of it "
            f"is listed by: python -m focal_retina.tools.check_dataset --json {json_file}"
        )
    classes = dict(zip(table.categories.ids, table.categories.names, strict=True))
    images = table.images.file_names
    if unknown := set(table.annotations.category_ids) - classes.keys():
        raise ValueError(
            f"dataset {name}: {json_file} has objects of category {unknown.pop()}, which its "
            "categories lack"
        )
    # One is enough to tell a wrong folder, and to look for all takes minutes on a network drive.
    first = os.path.join(image_root, images[0])
    if not PathManager.isfile(first):
        raise ValueError(f"dataset {name}: {first}, which {json_file} names, does not exist")
    return [classes[i] for i in sorted(classes)]


def _register_voc(name: str, folder: str, split: str) -> None:
    if not _is_registered(name, dirname=folder, split=split):
        classes = voc_classes(folder)
        records = load_voc(folder, split, classes)
        DatasetCatalog.register(name, lambda: copy.deepcopy(records))
        MetadataCatalog.get(name).set(
            thing_classes=classes, dirname=folder, split=split, evaluator_type="coco"
        )
