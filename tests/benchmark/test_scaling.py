"""Sweeps leave out who would not fit."""

import pytest

from focal_retina.benchmark.measuring import Case, CaseResult, Contestant, Measurement
from focal_retina.benchmark.scaling import Limits, Sweep, run_sweep

SECONDS = {"quadratic": lambda x: x * x, "constant": lambda x: 1.0}


def sweep_over(values, power):
    contestants = {name: Contestant(lambda: None) for name in SECONDS}
    cases = (Case("group", str(x), "quadratic", contestants) for x in values)
    return Sweep("sweep", "size", values, cases, power)


def measured(case):
    """Return times and memory, both of which are the square of the case's name for one."""
    cost = {name: SECONDS[name](int(case.name)) for name in case.contestants}
    measurements = {name: Measurement([x], x) for name, x in cost.items()}
    return CaseResult(case.group, case.name, case.baseline, measurements, 0, "")


@pytest.mark.parametrize("limits", [Limits(150, 1e9), Limits(1e9, 150)])
def test_a_contestant_is_left_out_from_where_it_is_expected_to_go_over_a_limit(limits):
    result = run_sweep(sweep_over((1, 10, 100, 101), power=2), measured, limits)
    names = [list(case.measurements) for case in result.results]
    assert names == [["quadratic", "constant"]] * 2 + [["constant"]] * 2


def test_the_expectation_grows_with_the_power_of_the_work():
    sweep = sweep_over((1, 10, 11), power=1)
    names = [set(c.measurements) for c in run_sweep(sweep, measured, Limits(115, 115)).results]
    assert names[2] == {"quadratic", "constant"}
    sweep = sweep_over((1, 10, 11), power=2)
    names = [set(c.measurements) for c in run_sweep(sweep, measured, Limits(115, 115)).results]
    assert names[2] == {"constant"}
