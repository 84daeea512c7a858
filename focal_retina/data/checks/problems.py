"""What can be wrong with a dataset, and the places where it is.

The tests of this folder observe that Detectron2's loaders, mapper and evaluators do what the
consequences say.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

from focal_retina.errors import shortened


class Problem(NamedTuple):
    """One thing that can be wrong."""

    severity: str  # "error": training or evaluation stops, or learns or measures something wrong
    name: str
    description: str
    consequence: str  # what training and evaluation do about it

    @property
    def is_error(self) -> bool:
        return self.severity == "error"


class Place(NamedTuple):
    """Where it is wrong: an entry of the json, or a picture."""

    path: str  # in the json, such as annotations[17].bbox; or the picture's file
    value: object = None
    note: str = ""
    annotation_id: object = None
    image_id: object = None
    file_name: str | None = None

    def __str__(self) -> str:
        named = {"annotation": self.annotation_id, "image": self.file_name}
        owner = ", ".join(f"{k} {v}" for k, v in named.items() if v not in (None, self.path))
        value = "" if self.value is None else f" is {shortened(repr(self.value))}"
        note = f": {self.note}" if self.note else ""
        return f"{self.path}{f' ({owner})' if owner else ''}{value}{note}"


class Finding(NamedTuple):
    """All places of one dataset that have one problem."""

    problem: Problem
    source: str  # the dataset's name, or its json
    places: Sequence[Place]  # at least one

    def __str__(self) -> str:
        others = len(self.places) - 1
        more = f" (and {others} more)" if others else ""
        problem = self.problem
        return (
            f"{self.source}: {self.places[0]}{more}: {problem.description}; {problem.consequence}"
        )


def findings(source: str, found: Iterable[tuple[Problem, Sequence[Place]]]) -> list[Finding]:
    """Return a finding of each problem that has places, errors first."""
    kept = [Finding(problem, source, places) for problem, places in found if places]
    return sorted(kept, key=lambda finding: not finding.problem.is_error)


_error = partial(Problem, "error")
_warning = partial(Problem, "warning")

MALFORMED = _error(
    "malformed", "this is not COCO's format", "loading stops, or takes it for something else"
)
IMAGE_ID_REPEATED = _error(
    "image-id-repeated",
    "another image has this id",
    "only the last of them is loaded, with the objects of all",
)
ANNOTATION_ID_REPEATED = _error(
    "annotation-id-repeated", "another annotation has this id", "loading stops"
)
CATEGORY_ID_REPEATED = _error(
    "category-id-repeated",
    "another category has this id",
    "loading stops, or numbers the classes wrongly",
)
CATEGORY_UNKNOWN = _error(
    "category-unknown", "no category has this id", "loading stops at this annotation"
)
BOX_NOT_FINITE = _error(
    "box-not-finite",
    "a box is NaN or infinite",
    "where it is NaN its object is dropped and learnt as background, where it is infinite it is "
    "cut at the image's border; evaluation counts the object as missed",
)
BOX_NEGATIVE = _error(
    "box-negative",
    "a box has a negative width or height (is it xyxy instead of xywh?)",
    "training mirrors it at its corner, evaluation counts its object as missed",
)
BOX_EMPTY = _warning(
    "box-empty", "a box has no area", "training drops its object, evaluation counts it as missed"
)
BOX_OUTSIDE = _warning(
    "box-outside",
    "a box lies outside the image",
    "training drops its object, evaluation counts it as missed",
)
BOX_ACROSS_BORDER = _warning(
    "box-across-border",
    "a box reaches over the image's border by more than a pixel (is it xyxy instead of xywh?)",
    "training cuts it at the border, evaluation does not",
)
IMAGE_UNKNOWN = _warning("image-unknown", "no image has this id", "the annotation is never loaded")
POLYGON_INVALID = _warning(
    "polygon-invalid",
    "a segmentation has no polygon of three points",
    "the annotation is never loaded, its box neither",
)
CROWD = _warning(
    "crowd", "an annotation is a crowd", "training drops it, evaluation ignores what is found there"
)
ANNOTATION_REPEATED = _warning(
    "annotation-repeated",
    "another annotation has the same image, class and box",
    "training learns the first of them, evaluation counts the others as missed",
)
FILE_NAME_REPEATED = _warning(
    "file-name-repeated",
    "another image has this file name",
    "training shows the picture twice, and what only the other lists is background",
)
IMAGE_EMPTY = _warning(
    "image-empty",
    "an image has no object (but crowds)",
    "training skips it, unless DATALOADER.FILTER_EMPTY_ANNOTATIONS is False",
)
CATEGORY_UNUSED = _warning(
    "category-unused",
    "a class has no object",
    "it is never learnt (in a training set) or left out of the AP (in a test set)",
)
CATEGORY_NAME_REPEATED = _warning(
    "category-name-repeated",
    "another category has this name",
    "they are learnt as different classes, and share a line of the AP by class",
)
EVALUATION_KEY_MISSING = _warning(
    "evaluation-key-missing",
    "an annotation has no area or no iscrowd",
    "training does not need them; evaluation by pycocotools stops, by faster-coco-eval goes on",
)
ID_NOT_INTEGER = _error(
    "id-not-integer",
    "an id is no integer",
    "training does not mind; evaluation by faster-coco-eval stops",
)
ANNOTATION_ID_BELOW_1 = _warning(
    "annotation-id-below-1",
    "an annotation has an id below 1",
    "training does not mind; evaluation counts its object as missed, whatever is found",
)

FILE_MISSING = _error("file-missing", "the picture does not exist", "training stops at it")
FILE_UNREADABLE = _error("file-unreadable", "the picture cannot be read", "training stops at it")
SIZE_DIFFERS = _error(
    "size-differs", "the picture has another size than the json says", "training stops at it"
)
EXIF_ROTATED = _warning(
    "exif-rotated",
    "EXIF rotates or mirrors the picture",
    "training turns it upright and expects size and boxes of the upright picture",
)
GREY = _warning("grey", "the picture is grey", "training repeats the channel three times")
CMYK = _warning("cmyk", "the picture is CMYK", "training converts it to RGB without a profile")
DEEP = _error(
    "more-than-8-bits",
    "the picture has one channel of more than 8 bits",
    "training stops at it, rather than cut values above 255 as Detectron2 does",
)

SAME_FILE = _warning(
    "leak-same-file", "a picture of the training set is in the test set", "the AP is too good"
)
SAME_BYTES = _warning(
    "leak-same-bytes",
    "a picture of the training set is, under another name, in the test set",
    "the AP is too good",
)
CLASSES_DIFFER = _error(
    "classes-differ",
    "the datasets have different classes, or in another order",
    "training stops, or evaluation takes one class for another",
)
