"""All results of a benchmark."""

import dataclasses
from dataclasses import dataclass, field

from experiments.benchmark.inputs import Setting
from experiments.benchmark.measuring import CaseResult
from experiments.benchmark.scaling import SweepResult
from experiments.benchmark.shares import Share
from experiments.benchmark.targets import TARGETS, Target


@dataclass
class Report:
    """What a run of the benchmark measured, on what."""

    machine: dict[str, str]
    setting: Setting
    rounds: int
    cases: list[CaseResult] = field(default_factory=list)
    shares: dict[str, Share] = field(default_factory=dict)  # by contestant of the training step
    sweeps: list[SweepResult] = field(default_factory=list)

    def measured(self, target: Target) -> float | None:
        """Return the quantity that a target bounds; None if it was not measured."""
        if target.quantity == "time share":
            share = self.shares.get(target.ours)
            return share and share.outside_convolutions
        names = target.group, target.case
        cases = [case for case in self.cases if (case.group, case.name) == names]
        return _quantity(cases[0], target) if cases else None

    def as_dict(self) -> dict:
        """Return everything, the targets too, in types that JSON knows; times in seconds."""
        content = dataclasses.asdict(self)
        content["targets"] = [
            {**dataclasses.asdict(target), "measured": self.measured(target)} for target in TARGETS
        ]
        return content


def _quantity(case: CaseResult, target: Target) -> float | None:
    if target.quantity == "speedup":
        return case.speedup(target.ours, target.against)
    if target.quantity == "memory ratio":
        return case.memory_ratio(target.ours, target.against)
    ours = case.measurements.get(target.ours)
    return ours and ours.peak_mib
