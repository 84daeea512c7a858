"""Register the user's own datasets, which a config declares, and agree on their classes."""

import logging
from collections.abc import Mapping, Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from focal_retina.data.coco import register_coco
from focal_retina.data.voc import register_voc
from focal_retina.errors import UserError

logger = logging.getLogger(__name__)

# Detectron2's default of MODEL.RETINANET.NUM_CLASSES, for configs that do not set it.
_DEFAULT_NUM_CLASSES = 80


def register_datasets(
    entries: Sequence[Sequence[str]], *, boxes_only: bool = True, has_images: bool = True
) -> None:
    """Register datasets with their class names; those that are registered already stay.

    Args:
        entries: each ``[name, COCO json, image folder]`` or ``[name, "voc", VOC folder, split]``;
            paths are absolute or relative to the working directory. The folder of a VOC dataset
            has ``Annotations``, ``ImageSets/Main/<split>.txt`` and ``JPEGImages``; its classes are
            those found in ``Annotations``, and it is evaluated with COCO's metrics.
        boxes_only: leave segmentations and keypoints of json alone, whatever they are, since the
            model uses none.
        has_images: the images must be there, and not the annotations alone.

    Raises:
        UserError: a malformed entry, a missing or malformed file, another dataset of that name.
    """
    for entry in entries:
        match entry:
            case [str(name), "voc", str(folder), str(split)]:
                if not _is_registered(name, dirname=folder, split=split):
                    register_voc(name, folder, split)
            case [str(name), str(json_file), str(image_root)]:
                if not _is_registered(name, json_file=json_file, image_root=image_root):
                    options = {"boxes_only": boxes_only, "has_images": has_images}
                    register_coco(name, json_file, image_root, **options)
                elif not boxes_only:
                    DatasetCatalog[name].boxes_only = False
            case _:
                raise UserError(
                    "a dataset is declared as [name, COCO json, image folder] or "
                    f"[name, 'voc', VOC folder, split], not as {entry!r}"
                )


def on_this_machine(entries: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Return the entries but for those whose json or VOC folder is elsewhere."""

    def is_here(entry: Sequence[str]) -> bool:
        match entry:
            case [_, "voc", str(path), _] | [_, str(path), _]:
                return PathManager.exists(path)
        return True  # to be refused

    return [entry for entry in entries if is_here(entry)]


def agree_on_classes(
    key: str,
    num_classes: int,
    names: Sequence[str],
    otherwise: Mapping[str, Sequence[str]] | None = None,
) -> int:
    """Return the number of classes of the datasets; log it if the config's value changes.

    Args:
        key: what the config calls the number.
        num_classes: the config's value; 80, Detectron2's default, counts as not set.
        names: registered datasets. Those that do not state their classes do not count.
        otherwise: who states which classes where no dataset does.

    Raises:
        UserError: two datasets have different classes, or the config contradicts them.
    """
    stated = _stated_classes(names) or {k: list(v) for k, v in (otherwise or {}).items()}
    if not stated:
        return num_classes
    first, classes = next(iter(stated.items()))
    for other, other_classes in stated.items():
        if other_classes != classes:
            raise UserError(
                f"datasets used together need the same classes, but {_summary(first, classes)} "
                f"and {_summary(other, other_classes)}"
            )
    if num_classes not in (len(classes), _DEFAULT_NUM_CLASSES):
        raise UserError(
            f"{key} is {num_classes}, but {_summary(first, classes)}: leave {key} out, "
            f"or set it to {len(classes)}"
        )
    if num_classes != len(classes):
        logger.info(f"{key} becomes {len(classes)}: {_summary(first, classes)}")
    return len(classes)


def class_names(names: Sequence[str]) -> list[str] | None:
    """Return the class names of the first of these registered datasets that states them."""
    return next(iter(_stated_classes(names).values()), None)


def category_ids(names: Sequence[str]) -> list[int] | None:
    """Return the ids of the classes in the first of these datasets that states them."""
    key = "thing_dataset_id_to_contiguous_id"
    found = (MetadataCatalog.get(name).get(key) for name in names)
    return next((sorted(ids, key=ids.get) for ids in found if ids), None)


def _stated_classes(names: Sequence[str]) -> dict[str, list[str]]:
    found = {name: MetadataCatalog.get(name).get("thing_classes") for name in names}
    return {name: list(classes) for name, classes in found.items() if classes is not None}


def _summary(name: str, classes: list[str]) -> str:
    source = MetadataCatalog.get(name).get("json_file")
    origin = f" ({source})" if source else ""
    noun = "class" if len(classes) == 1 else "classes"
    first = ", ".join([*classes[:5], *(["..."] * (len(classes) > 5))])
    return f"{name}{origin} has {len(classes)} {noun} ({first})"


def _is_registered(name: str, **metadata: str) -> bool:
    """Return whether this dataset is registered; raise a UserError if another has its name."""
    if name not in DatasetCatalog:
        return False
    for key, value in metadata.items():
        found = MetadataCatalog.get(name).get(key)
        if found != value:
            raise UserError(
                f"dataset {name}: {key} is {value}, but a dataset of this name is already "
                f"registered with {found}; choose another name"
            )
    return True
