"""Recognise the project that a checkpoint is from, and convert it."""

import re

from focal_retina.checkpoint.conversion import (
    common,
    detectron1,
    detectron2,
    mmdetection,
    resnet,
    torchvision,
)
from focal_retina.checkpoint.conversion.architecture import config_of
from focal_retina.errors import UserError

# In the order to try: a detector's names may include those of its backbone. A source has
# ``KNOWN_BY``, names of weights that only its files have, and ``convert``.
SOURCES = {
    "detectron2": detectron2,
    "detectron1": detectron1,
    "torchvision": torchvision,
    "mmdetection": mmdetection,
    "resnet": resnet,
}


def recognise(weights: dict) -> str | None:
    """Return the key of ``SOURCES`` that weights are from; None for other weights."""
    weights = _without_wrappers(weights)
    return next((kind for kind, x in SOURCES.items() if x.KNOWN_BY <= weights.keys()), None)


def _without_wrappers(weights: dict) -> dict:
    """Return weights without the prefixes of data-parallel training, Lightning and the like."""
    return {re.sub(r"^((module|model)\.)+", "", name): x for name, x in weights.items()}


def convert(
    checkpoint: dict, kind: str | None = None, **options: float | bool
) -> common.Conversion:
    """Convert a checkpoint; its config is complete but for the path of the weights.

    A UserError says that the source is not recognised, or what it has that our detector lacks.

    Args:
        checkpoint: the content of a file, see ``reading.read_checkpoint``.
        kind: a key of ``SOURCES``; None to recognise it by its names.
        options: see ``torchvision.convert``.
    """
    weights = _without_wrappers(checkpoint["model"])
    kind = kind or recognise(weights)
    if kind is None:
        raise UserError(
            "the names of the weights are of no known source; say which one it is with --from "
            + ", ".join(SOURCES)
        )
    if options and kind != "torchvision":
        raise UserError("--background and --norm-eps are for torchvision's models only")
    try:
        weights, config, class_names, notes = SOURCES[kind].convert(weights, checkpoint, **options)
        config = config_of(weights) | config
    except KeyError as error:
        raise UserError(f"this is no {kind} checkpoint: it lacks {error}") from error
    count = config.get("MODEL.RETINANET.NUM_CLASSES")
    is_list = isinstance(class_names, list | tuple) and all(isinstance(x, str) for x in class_names)
    if class_names is not None and not (is_list and len(class_names) == count):
        notes = [*notes, f"left out its class names, which are no list of {count} texts"]
        class_names = None
    if class_names is None and count == 80:
        class_names = common.COCO_NAMES
        notes = [*notes, "took its 80 classes for those of COCO"]
    class_names = class_names and list(class_names)
    if class_names == common.COCO_NAMES:
        config["DATASETS.TRAIN"] = ["coco_2017_train"]
        config["DATASETS.TEST"] = ["coco_2017_val"]
    return common.Conversion(weights, config, class_names, notes)
