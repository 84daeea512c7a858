"""What can be wrong with a dataset, and the places where it is.

The consequences are those of Detectron2's loaders, mapper and evaluator as the tests of this folder
observe them.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Rule(NamedTuple):
    """One thing that can be wrong."""

    name: str
    is_error: bool  # training or evaluation stops, or learns or measures something wrong
    problem: str
    consequence: str  # what training and evaluation do about it

    @property
    def severity(self) -> str:
        return "error" if self.is_error else "warning"


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
        shown = "" if self.value is None else f" is {_short(self.value)}"
        return f"{self.path}{f' ({owner})' if owner else ''}{shown}" + (
            f": {self.note}" if self.note else ""
        )


class Finding(NamedTuple):
    """All places of one dataset that break one rule."""

    rule: Rule
    source: str  # the dataset's name, or its json
    places: Sequence[Place]  # at least one

    def __str__(self) -> str:
        others = len(self.places) - 1
        more = f" (and {others} more)" if others else ""
        rule = self.rule
        return f"{self.source}: {self.places[0]}{more}: {rule.problem}; {rule.consequence}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


MALFORMED = Rule(
    "malformed", True, "this is not COCO's format", "loading stops, or takes it for something else"
)
IMAGE_ID_REPEATED = Rule(
    "image-id-repeated",
    True,
    "another image has this id",
    "only the last of them is loaded, with the objects of all",
)
ANNOTATION_ID_REPEATED = Rule(
    "annotation-id-repeated", True, "another annotation has this id", "loading stops"
)
CATEGORY_ID_REPEATED = Rule(
    "category-id-repeated",
    True,
    "another category has this id",
    "loading stops, or numbers the classes wrongly",
)
CATEGORY_UNKNOWN = Rule(
    "category-unknown", True, "no category has this id", "loading stops at this annotation"
)
BOX_NOT_FINITE = Rule(
    "box-not-finite",
    True,
    "a box is NaN or infinite",
    "where it is NaN its object is dropped and learnt as background, where it is infinite it is "
    "cut at the image's border; evaluation counts the object as missed",
)
BOX_NEGATIVE = Rule(
    "box-negative",
    True,
    "a box has a negative width or height (is it xyxy instead of xywh?)",
    "training mirrors it at its corner, evaluation counts its object as missed",
)
BOX_EMPTY = Rule(
    "box-empty",
    False,
    "a box has no area",
    "training drops its object, evaluation counts it as missed",
)
BOX_OUTSIDE = Rule(
    "box-outside",
    False,
    "a box lies outside the image",
    "training drops its object, evaluation counts it as missed",
)
BOX_ACROSS_BORDER = Rule(
    "box-across-border",
    False,
    "a box reaches over the image's border by more than a pixel (is it xyxy instead of xywh?)",
    "training cuts it at the border, evaluation does not",
)
IMAGE_UNKNOWN = Rule(
    "image-unknown", False, "no image has this id", "the annotation is never loaded"
)
POLYGON_INVALID = Rule(
    "polygon-invalid",
    False,
    "a segmentation has no polygon of three points",
    "the annotation is never loaded, its box neither",
)
CROWD = Rule(
    "crowd",
    False,
    "an annotation is a crowd",
    "training drops it, evaluation ignores what is found there",
)
ANNOTATION_REPEATED = Rule(
    "annotation-repeated",
    False,
    "another annotation has the same image, class and box",
    "training learns the first of them, evaluation counts the others as missed",
)
FILE_NAME_REPEATED = Rule(
    "file-name-repeated",
    False,
    "another image has this file name",
    "training shows the picture twice, and what only the other lists is background",
)
IMAGE_EMPTY = Rule(
    "image-empty",
    False,
    "an image has no object (but crowds)",
    "training skips it, unless DATALOADER.FILTER_EMPTY_ANNOTATIONS is False",
)
CATEGORY_UNUSED = Rule(
    "category-unused",
    False,
    "a class has no object",
    "it is never learnt (in a training set) or left out of the AP (in a test set)",
)
CATEGORY_NAME_REPEATED = Rule(
    "category-name-repeated",
    False,
    "another category has this name",
    "they are learnt as different classes, and share a line of the AP by class",
)
EVALUATION_KEY_MISSING = Rule(
    "evaluation-key-missing",
    False,
    "an annotation has no area or no iscrowd",
    "training does not need them; evaluation by pycocotools stops, by faster-coco-eval goes on",
)
ID_NOT_INTEGER = Rule(
    "id-not-integer",
    True,
    "an id is no integer",
    "training does not mind; evaluation by faster-coco-eval stops",
)
ANNOTATION_ID_BELOW_1 = Rule(
    "annotation-id-below-1",
    False,
    "an annotation has an id below 1",
    "training does not mind; evaluation counts its object as missed, whatever is found",
)

FILE_MISSING = Rule("file-missing", True, "the picture does not exist", "training stops at it")
FILE_UNREADABLE = Rule(
    "file-unreadable", True, "the picture cannot be read", "training stops at it"
)
SIZE_DIFFERS = Rule(
    "size-differs", True, "the picture has another size than the json says", "training stops at it"
)
EXIF_ROTATED = Rule(
    "exif-rotated",
    False,
    "EXIF rotates or mirrors the picture",
    "training turns it upright and expects size and boxes of the upright picture",
)
GREY = Rule("grey", False, "the picture is grey", "training repeats the channel three times")
CMYK = Rule("cmyk", False, "the picture is CMYK", "training converts it to RGB without a profile")
DEEP = Rule(
    "more-than-8-bits",
    True,
    "the picture has one channel of more than 8 bits",
    "training stops at it, rather than cut values above 255 as Detectron2 does",
)

SAME_FILE = Rule(
    "leak-same-file",
    False,
    "a picture of the training set is in the test set",
    "the AP is too good",
)
SAME_BYTES = Rule(
    "leak-same-bytes",
    False,
    "a picture of the training set is, under another name, in the test set",
    "the AP is too good",
)
CLASSES_DIFFER = Rule(
    "classes-differ",
    True,
    "the datasets have different classes, or in another order",
    "training stops, or evaluation takes one class for another",
)
