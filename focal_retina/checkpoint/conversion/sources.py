"""Recognise the project that a checkpoint is from, and convert it."""

from focal_retina.checkpoint.conversion import (
    common,
    detectron1,
    detectron2,
    mmdetection,
    resnet,
    torchvision,
)
from focal_retina.checkpoint.conversion.architecture import config_of
from focal_retina.checkpoint.reading import weights_of
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
    return next((kind for kind, x in SOURCES.items() if x.KNOWN_BY <= weights.keys()), None)


def convert(
    checkpoint: dict, kind: str | None = None, norm_eps: float = common.NORM_EPS
) -> common.Conversion:
    """Convert a checkpoint; its config is complete but for the path of the weights.

    A UserError says that the source is not recognised, or what it has that our detector lacks.

    Args:
        checkpoint: the content of a file, see ``reading.read_checkpoint``.
        kind: a key of ``SOURCES``; None to recognise it by its names.
        norm_eps: see ``torchvision.convert``.
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
    if class_names is None and config.get("MODEL.RETINANET.NUM_CLASSES") == 80:
        class_names = common.COCO_NAMES
        notes = [*notes, "took its 80 classes for those of COCO"]
    if class_names == common.COCO_NAMES:
        config["DATASETS.TRAIN"] = ["coco_2017_train"]
        config["DATASETS.TEST"] = ["coco_2017_val"]
    return common.Conversion(weights, config, class_names, notes)
