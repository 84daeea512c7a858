"""Implementations run in turns and times are medians."""

import gc
import time

import pytest
import torch

from experiments.benchmark.case import Case, Implementation
from experiments.benchmark.results import CaseResult, Measurement
from experiments.benchmark.timing import time_case


def measured(runs, *, min_seconds=0, calls=1, **kwargs):
    implementations = {name: Implementation(run, calls=calls) for name, run in runs.items()}
    case = Case("group", "name", next(iter(runs)), implementations)
    peaks, device = {"a": 7.0}, torch.device("cpu")
    return time_case(case, device, peaks, min_seconds=min_seconds, **kwargs).measurements


def test_implementations_run_in_turns_after_one_run_each_to_warm_up():
    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in "ab"}
    measurements = measured(runs, rounds=3)
    assert calls == ["a", "b"] * 4
    assert [len(m.times) for m in measurements.values()] == [3, 3]
    # Memory is the one measured before.
    assert [m.peak_mib for m in measurements.values()] == [7.0, None]


def test_rounds_take_the_least_time_but_at_most_ten_times_the_number_asked_for():
    measurements = measured({"a": lambda: time.sleep(0.01)}, rounds=2, min_seconds=0.05)
    assert 2 < len(measurements["a"].times) <= 5
    measurements = measured({"a": lambda: None}, rounds=2, min_seconds=9)
    assert len(measurements["a"].times) == 20


def test_the_time_is_the_median_over_rounds_and_that_of_all_calls_of_a_limit():
    assert Measurement([5.0, 1.0, 2.0], None).seconds == 2.0
    measurements = measured({"a": lambda: time.sleep(0.01)}, rounds=1, calls=10)
    assert measurements["a"].seconds >= 0.1


def test_the_collector_runs_in_timed_runs_without_what_was_there_before():
    seen = []
    measured({"a": lambda: seen.append((gc.isenabled(), gc.get_freeze_count()))}, rounds=1)
    assert all(is_enabled and frozen for is_enabled, frozen in seen)
    assert gc.get_freeze_count() == 0


def test_ratios_are_none_where_the_baseline_or_a_memory_is_missing():
    measurements = {"a": Measurement([2.0], 10.0), "b": Measurement([1.0], None)}
    results = [CaseResult("group", "name", baseline, measurements) for baseline in "abc"]
    assert [result.speedup("b") for result in results] == [2.0, 1.0, None]
    assert [result.memory_ratio("a") for result in results] == [1.0, None, None]
    assert results[0].memory_ratio("b") is None


@pytest.mark.parametrize("failing_run", [1, 2])
def test_nothing_stays_frozen_after_an_error(failing_run):
    calls = []

    def run():
        calls.append(1)
        if len(calls) == failing_run:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        measured({"a": run}, rounds=1)
    assert gc.get_freeze_count() == 0
