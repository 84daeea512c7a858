"""The sources: which one a file is from, and what it becomes."""

from focal_retina.checkpoint.conversion import (
    detectron1,
    detectron2,
    mmdetection,
    resnet,
    torchvision,
)
from focal_retina.checkpoint.conversion.architecture import config_of
from focal_retina.checkpoint.conversion.renaming import COCO_THINGS, NORM_EPS, Conversion
from focal_retina.checkpoint.reading import WEIGHTS_KEYS

# In this order: a detector's names may include those of its backbone.
SOURCES = {
    "detectron2": detectron2,
    "detectron1": detectron1,
    "torchvision": torchvision,
    "mmdetection": mmdetection,
    "resnet": resnet,
}


def weights_of(checkpoint: dict) -> dict:
    """Return the weights by name, without the prefix of data-parallel training."""
    inner = [checkpoint[k] for k in WEIGHTS_KEYS if isinstance(checkpoint.get(k), dict)]
    weights = inner[0] if inner else checkpoint
    return {name.removeprefix("module."): value for name, value in weights.items()}


def recognise(weights: dict) -> str | None:
    """Return the name of the source that weights are from, None where it is none of ours."""
    names = set(weights)
    return next((kind for kind, source in SOURCES.items() if source.recognise(names)), None)


def convert(checkpoint: dict, kind: str | None = None, norm_eps: float = NORM_EPS) -> Conversion:
    """Convert a checkpoint; its config is complete but for the path of the weights.

    Args:
        checkpoint: the content of a file, see ``reading.read_checkpoint``.
        kind: a key of ``SOURCES``; None to recognise it by its names.
        norm_eps: see ``torchvision.convert``.

    Raises:
        ValueError: the source is not recognised, or has what our detector lacks.
    """
    weights = weights_of(checkpoint)
    kind = kind or recognise(weights)
    if kind is None:
        raise ValueError(
            "the names of the weights are of no known source; say which one it is with --from "
            + ", ".join(SOURCES)
        )
    options = {"norm_eps": norm_eps} if kind == "torchvision" else {}
    try:
        weights, config, class_names, notes = SOURCES[kind].convert(weights, checkpoint, **options)
        config = config_of(weights) | config
    except KeyError as error:
        raise ValueError(f"this is no {kind} checkpoint: it lacks {error}") from error
    if class_names is None and config.get("MODEL.RETINANET.NUM_CLASSES") == len(COCO_THINGS):
        class_names = list(COCO_THINGS.values())
        notes = [*notes, "took its 80 classes for those of COCO"]
    if class_names == list(COCO_THINGS.values()):
        config["DATASETS.TRAIN"] = ["coco_2017_train"]
        config["DATASETS.TEST"] = ["coco_2017_val"]
    return Conversion(weights, config, class_names, notes)
