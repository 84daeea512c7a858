"""How time and memory grow with objects, image size and classes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from focal_retina.benchmark.inputs import Setting
from focal_retina.benchmark.labelling import labelling_cases
from focal_retina.benchmark.losses import loss_cases
from focal_retina.benchmark.measuring import Case, CaseResult, Measurement
from focal_retina.benchmark.whole import training_cases

STEP_CONTESTANTS = (("Detectron2", "fp32"), ("focal_retina", "fp32"), ("focal_retina", "bf16"))


@dataclass(frozen=True)
class Sweep:
    """Cases that differ by one size.

    Args:
        name: of what is done.
        axis: the size that differs.
        values: of the size, ascending.
        cases: one for each value, made as they are asked for.
        power: the work grows about as this power of the size.
    """

    name: str
    axis: str
    values: tuple[int, ...]
    cases: Iterator[Case]
    power: int = 1


@dataclass
class SweepResult:
    """The results of a sweep, one for each value."""

    name: str
    axis: str
    values: tuple[int, ...]
    results: list[CaseResult]


@dataclass(frozen=True)
class Limits:
    """A contestant that is expected to take more than this is left out of a sweep's rest."""

    seconds: float = 60.0
    mib: float = 8192.0


def sweeps(setting: Setting, quick: bool) -> Iterator[Sweep]:
    """Yield the sweeps over objects, image sides and classes; tiny ones if quick."""
    counts = (1, 10) if quick else (1, 10, 100, 1000, 5000)
    cases = labelling_cases(replace(setting, num_objects=counts))
    yield Sweep("labelling", "objects of an image", counts, cases)

    sides = (160,) if quick else (400, 600, 800, 1067, 1333)
    cases = (
        case
        for side in sides
        for case in training_cases(replace(setting, height=side, width=side), STEP_CONTESTANTS)
    )
    yield Sweep("training step", "side of a square image (pixels)", sides, cases, power=2)

    classes = (1, 8) if quick else (1, 3, 10, 30, 80, 300, 1203)
    cases = (next(loss_cases(replace(setting, num_classes=count))) for count in classes)
    yield Sweep("focal loss, forward and backward", "classes", classes, cases)


def run_sweep(
    sweep: Sweep, measure_case: Callable[[Case], CaseResult], limits: Limits
) -> SweepResult:
    """Measure the cases of a sweep, leaving out who would go over the limits."""
    results = []
    for i, case in enumerate(sweep.cases):
        if results:
            growth = (sweep.values[i] / sweep.values[i - 1]) ** sweep.power
            case = _without_too_large(case, results[-1].measurements, growth, limits)
        results.append(measure_case(case))
    return SweepResult(sweep.name, sweep.axis, sweep.values, results)


def _without_too_large(
    case: Case, last: dict[str, Measurement], growth: float, limits: Limits
) -> Case:
    """Return the case with those contestants whose last measurement, grown, fits."""
    fitting = {
        name: contestant
        for name, contestant in case.contestants.items()
        if name in last
        and last[name].seconds * growth <= limits.seconds
        and (last[name].peak_mib or 0) * growth <= limits.mib
    }
    return replace(case, contestants=fitting)
