"""What can be wrong with a dataset, and the places where it is.

The tests of this folder observe that Detectron2's loaders, mapper and evaluators do what the
consequences say.
"""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from focal_retina.errors import shortened


def _error(description: str, consequence: str) -> tuple[str, str, str]:
    return "error", description, consequence


def _warning(description: str, consequence: str) -> tuple[str, str, str]:
    return "warning", description, consequence


class Problem(Enum):
    """One thing that can be wrong.

    It is an error if training or evaluation stops, or learns or measures something wrong. The
    consequence says what they do about it.
    """

    MALFORMED = _error(
        "this is not of the dataset's format", "loading stops, or takes it for something else"
    )
    IMAGE_ID_REPEATED = _error(
        "another image has this id", "only the last of them is loaded, with the objects of all"
    )
    ANNOTATION_ID_REPEATED = _error("another annotation has this id", "loading stops")
    CATEGORY_ID_REPEATED = _error(
        "another category has this id", "loading stops, or numbers the classes wrongly"
    )
    CATEGORY_UNKNOWN = _error("no category has this id", "loading stops at this annotation")
    NO_OBJECT_LEFT = _error(
        "annotations are there, but none can be used",
        "training would learn that nothing is to be found, and evaluation would have no AP",
    )
    BOX_NORMALIZED = _error(
        "a box has no number above 1 (is it relative to the size of the image?)",
        "training and evaluation take it for pixels, a speck in the image's corner",
    )
    BOX_NOT_FINITE = _error(
        "a box is NaN or infinite",
        "where it is NaN its object is dropped and learnt as background, where it is infinite it "
        "is cut at the image's border; evaluation is by pycocotools, not by hotcoco, which refuses "
        "it, and may count the object as missed",
    )
    BOX_NEGATIVE = _error(
        "a box has a negative width or height",
        "training mirrors it at its corner, evaluation counts its object as missed",
    )
    BOX_EMPTY = _warning(
        "a box has no area", "training drops its object, evaluation counts it as missed"
    )
    BOX_OUTSIDE = _warning(
        "a box lies outside the image", "training drops its object, evaluation counts it as missed"
    )
    BOX_ACROSS_BORDER = _warning(
        "a box reaches over the image's border by more than a pixel",
        "training cuts it at the border, evaluation does not",
    )
    BOX_TINY = _warning(
        "an object is less than a pixel wide or high at the smallest size of training",
        "training drops it, or learns from what cannot be seen: use larger images, or crop them",
    )
    AREA_DIFFERS = _warning(
        "an area does not fit its box",
        "AP by size takes the object for another size; training does not mind, if the box is right",
    )
    IMAGE_UNKNOWN = _warning("no image has this id", "the annotation is never loaded")
    POLYGON_INVALID = _warning(
        "a segmentation has no polygon of three points",
        "the annotation is never loaded, its box neither",
    )
    CROWD = _warning(
        "an annotation is a crowd", "training drops it, evaluation ignores what is found there"
    )
    ANNOTATION_REPEATED = _warning(
        "another annotation has the same image, class and box",
        "training learns the first of them, evaluation counts the others as missed",
    )
    FILE_NAME_REPEATED = _warning(
        "another image has this file name",
        "training shows the picture twice, and what only the other lists is background",
    )
    IMAGE_EMPTY = _warning(
        "an image has no object (but crowds)",
        "training skips it, unless DATALOADER.FILTER_EMPTY_ANNOTATIONS is False",
    )
    CATEGORY_UNUSED = _warning(
        "a class has no object",
        "it is never learnt (in a training set) or left out of the AP (in a test set)",
    )
    CATEGORY_NAME_REPEATED = _warning(
        "another category has this name",
        "they are learnt as different classes, and share a line of the AP by class",
    )
    CATEGORY_NAMES_ALIKE = _warning(
        "another category has this name in other letters or white space",
        "they are learnt as different classes",
    )
    EVALUATION_KEY_MISSING = _warning(
        "an annotation has no area or no iscrowd",
        "training and evaluation do without (the area is the box's); pycocotools alone stops",
    )
    ID_NOT_INTEGER = _warning(
        "an id is no integer", "training and evaluation do not mind; other programs may stop"
    )
    ANNOTATION_ID_BELOW_1 = _warning(
        "an annotation has an id below 1",
        "training and evaluation do not mind; pycocotools alone may count its object as missed",
    )

    FILE_MISSING = _error("the picture does not exist", "training stops at it")
    FILE_UNREADABLE = _error("the picture cannot be read", "training stops at it")
    SIZE_DIFFERS = _error("the picture has another size than is stated", "training stops at it")
    EXIF_ROTATED = _warning(
        "EXIF rotates or mirrors the picture",
        "training turns it upright and expects size and boxes of the upright picture",
    )
    GREY = _warning("the picture is grey", "training repeats the channel three times")
    CMYK = _warning("the picture is CMYK", "training converts it to RGB without a profile")
    MORE_THAN_8_BITS = _warning(
        "the picture has one channel of 16 bits",
        "training divides its values by 257; pixels of fewer bits become nearly black",
    )

    LEAK_SAME_FILE = _warning(
        "a picture of the training set is in the test set", "the AP is too good"
    )
    LEAK_SAME_BYTES = _warning(
        "a picture of the training set is, under another name, in the test set",
        "the AP is too good",
    )
    CLASSES_DIFFER = _error(
        "the datasets have different classes, or in another order",
        "training stops, or evaluation takes one class for another",
    )

    def __init__(self, severity: str, description: str, consequence: str):
        self.severity = severity
        self.description = description
        self.consequence = consequence
        self.is_error = severity == "error"
        self.label = self.name.lower().replace("_", "-")


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
        more = f" (and {len(self.places) - 1} more)" if len(self.places) > 1 else ""
        what = f"{self.problem.description}; {self.problem.consequence}"
        return f"{self.source}: {self.places[0]}{more}: {what}"


def findings(source: str, found: Iterable[tuple[Problem, Sequence[Place]]]) -> list[Finding]:
    """Return a finding of each problem that has places, errors first."""
    kept = [Finding(problem, source, places) for problem, places in found if places]
    return sorted(kept, key=lambda finding: not finding.problem.is_error)
