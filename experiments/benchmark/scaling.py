"""How time and memory grow with objects, image size and classes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from experiments.benchmark.inputs import Setting
from experiments.benchmark.labelling import labelling_cases
from experiments.benchmark.losses import loss_cases
from experiments.benchmark.measuring import Case, CaseResult
from experiments.benchmark.whole import training_cases

STEP_CONTESTANTS = (("Detectron2", "fp32"), ("focal_retina", "fp32"), ("focal_retina", "bf16"))


@dataclass(frozen=True)
class Sweep:
    """Cases that differ by one size.

    Args:
        name: of what is done.
        axis: the size that differs.
        values: of the size, ascending.
        cases: one for each value, made as they are asked for.
    """

    name: str
    axis: str
    values: tuple[int, ...]
    cases: Iterator[Case]


@dataclass
class SweepResult:
    """The results of a sweep, one for each value."""

    name: str
    axis: str
    values: tuple[int, ...]
    results: list[CaseResult]


def sweeps(setting: Setting, quick: bool) -> Iterator[Sweep]:
    """Yield the sweeps over objects, image sides and classes; tiny ones if quick.

    The last values of objects and of classes are for ours and the limit alone: the others would
    need 20 and 11 GiB for them, with images of 800 x 1216 pixels.
    """
    counts = (1, 10) if quick else (1, 10, 100, 1000, 5000)
    cases = labelling_cases(replace(setting, num_objects=counts))
    yield _sweep("labelling", "objects of an image", counts, cases, others_up_to=counts[-2])

    sides = (160,) if quick else (400, 600, 800, 1067, 1333)
    cases = (
        case
        for side in sides
        for case in training_cases(replace(setting, height=side, width=side), STEP_CONTESTANTS)
    )
    yield _sweep("training step", "side of a square image (pixels)", sides, cases, sides[-1])

    classes = (1, 8) if quick else (1, 3, 10, 30, 80, 300, 1203)
    cases = (next(loss_cases(replace(setting, num_classes=count))) for count in classes)
    yield _sweep("focal loss, forward and backward", "classes", classes, cases, classes[-2])


def _sweep(
    name: str, axis: str, values: tuple[int, ...], cases: Iterator[Case], others_up_to: int
) -> Sweep:
    return Sweep(name, axis, values, _named(name, values, cases, others_up_to))


def _named(
    name: str, values: tuple[int, ...], cases: Iterator[Case], others_up_to: int
) -> Iterator[Case]:
    """Yield the cases under names of their own, and without others above a value."""
    for value, case in zip(values, cases, strict=True):
        contestants = {
            who: contestant
            for who, contestant in case.contestants.items()
            if value <= others_up_to or who.startswith(("focal_retina", "limit"))
        }
        yield replace(case, group="scaling", name=f"{name}, {value}", contestants=contestants)
