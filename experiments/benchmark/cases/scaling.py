"""Series of cases: how time and memory grow with objects, image size and classes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from experiments.benchmark.case import Case
from experiments.benchmark.cases.labelling import labelling_cases
from experiments.benchmark.cases.losses import loss_cases
from experiments.benchmark.cases.whole_model import training_cases
from experiments.benchmark.setting import Setting

STEPS = (("Detectron2", "fp32"), ("focal_retina", "fp32"), ("focal_retina", "bf16"))


def scaling_cases(setting: Setting) -> Iterator[Case]:
    """Yield the series over objects, over image sides and over classes.

    The last numbers of objects and of classes are for ours and the limit alone: with images of
    800 x 1216 pixels the others would need 20 and 11 GiB.
    """
    counts = setting.scaling_objects
    cases = labelling_cases(replace(setting, num_objects=counts))
    yield from _series("labelling", "objects of an image", counts, cases, counts[-2])

    sides = setting.scaling_sides
    settings = (replace(setting, height=side, width=side) for side in sides)
    cases = (next(training_cases(of_side, STEPS)) for of_side in settings)
    yield from _series("training step", "side of a square image (pixels)", sides, cases, sides[-1])

    numbers = setting.scaling_classes
    cases = (next(loss_cases(replace(setting, num_classes=number))) for number in numbers)
    yield from _series("focal loss, forward and backward", "classes", numbers, cases, numbers[-2])


def _series(
    name: str, axis: str, values: Sequence[int], cases: Iterable[Case], others_up_to: int
) -> Iterator[Case]:
    """Yield the cases as a series, above a value without the implementations of others."""
    for value, case in zip(values, cases, strict=True):
        implementations = {
            key: implementation
            for key, implementation in case.implementations.items()
            if value <= others_up_to or key.startswith(("focal_retina", "limit"))
        }
        yield Case("scaling", name, case.baseline, implementations, axis, value)
