"""Recognise the project that a checkpoint is from, and convert it."""

from focal_retina.checkpoint.conversion import (
    detectron1,
    detectron2,
    mmdetection,
    resnet,
    torchvision,
)
from focal_retina.checkpoint.conversion.architecture import config_of
from focal_retina.checkpoint.conversion.weights import COCO_THINGS, NORM_EPS, Conversion
from focal_retina.checkpoint.reading import weights_of
from focal_retina.errors import UserError

# In the order to try: a detector's names may include those of its backbone.
SOURCES = {
    "detectron2": detectron2,
    "detectron1": detectron1,
    "torchvision": torchvision,
    "mmdetection": mmdetection,
    "resnet": resnet,
}


def recognise(weights: dict) -> str | None:
    """Return the key of ``SOURCES`` that weights are from; None for other weights."""
    names = set(weights)
    return next((kind for kind, source in SOURCES.items() if source.recognise(names)), None)


def convert(checkpoint: dict, kind: str | None = None, norm_eps: float = NORM_EPS) -> Conversion:
    """Convert a checkpoint; its config is complete but for the path of the weights.

    Args:
        checkpoint: the content of a file, see ``reading.read_checkpoint``.
        kind: a key of ``SOURCES``; None to recognise it by its names.
        norm_eps: see ``torchvision.convert``.

    Raises:
        UserError: the source is not recognised, or has something that our detector lacks.
    """
    weights = weights_of(checkpoint)
    kind = kind or recognise(weights)
    if kind is None:
        raise UserError(
            "the names of the weights are of no known source; say which one it is with --from "
            + ", ".join(SOURCES)
        )
    options = {"norm_eps": norm_eps} if kind == "torchvision" else {}
    try:
        weights, config, class_names, notes = SOURCES[kind].convert(weights, checkpoint, **options)
        config = config_of(weights) | config
    except KeyError as error:
        raise UserError(f"this is no {kind} checkpoint: it lacks {error}") from error
    if class_names is None and config.get("MODEL.RETINANET.NUM_CLASSES") == len(COCO_THINGS):
        class_names = list(COCO_THINGS.values())
        notes = [*notes, "took its 80 classes for those of COCO"]
    if class_names == list(COCO_THINGS.values()):
        config["DATASETS.TRAIN"] = ["coco_2017_train"]
        config["DATASETS.TEST"] = ["coco_2017_val"]
    return Conversion(weights, config, class_names, notes)
