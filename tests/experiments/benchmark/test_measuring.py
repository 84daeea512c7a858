"""Contestants run in turns and times are medians."""

import gc
import time

import pytest
import torch

from experiments.benchmark.measuring import Case, CaseResult, Contestant, Measurement, measure


def measured(contestants, **kwargs):
    case = Case("group", "name", next(iter(contestants)), contestants)
    return measure(case, torch.device("cpu"), {"a": 7.0}, **kwargs).measurements


def test_contestants_run_in_turns_after_one_run_each_to_warm_up():
    calls = []
    contestants = {name: Contestant(lambda name=name: calls.append(name)) for name in "ab"}
    measurements = measured(contestants, rounds=3, min_seconds=0)
    assert calls == ["a", "b"] * 4
    assert [len(m.times) for m in measurements.values()] == [3, 3]


def test_memory_is_the_one_measured_before():
    measurements = measured({name: Contestant(lambda: None) for name in "ab"}, rounds=1)
    assert [m.peak_mib for m in measurements.values()] == [7.0, None]


def test_rounds_go_on_until_they_have_taken_the_least_time():
    contestants = {"a": Contestant(lambda: time.sleep(0.01))}
    assert 2 < len(measured(contestants, rounds=2, min_seconds=0.05)["a"].times) <= 5


def test_rounds_of_the_fastest_end_at_ten_times_the_number_asked_for():
    contestants = {"a": Contestant(lambda: None)}
    assert len(measured(contestants, rounds=2, min_seconds=9)["a"].times) == 20


def test_the_time_is_the_median_over_rounds():
    assert Measurement([5.0, 1.0, 2.0], None).seconds == 2.0


def test_the_time_of_a_scaled_limit_is_that_of_all_its_calls():
    contestants = {"a": Contestant(lambda: time.sleep(0.01), calls=10)}
    assert measured(contestants, rounds=1, min_seconds=0)["a"].seconds >= 0.1


def test_the_collector_runs_in_timed_runs_without_what_was_there_before():
    seen = []
    measured(
        {"a": Contestant(lambda: seen.append((gc.isenabled(), gc.get_freeze_count())))}, rounds=1
    )
    assert all(is_enabled and frozen for is_enabled, frozen in seen)
    assert gc.get_freeze_count() == 0


def test_ratios_are_none_where_a_contestant_or_its_memory_is_missing():
    measurements = {"a": Measurement([2.0], 10.0), "b": Measurement([1.0], None)}
    result = CaseResult("group", "name", "a", measurements, 0, "")
    assert result.speedup("b", "a") == 2.0
    assert result.memory_ratio("a", "a") == 1.0
    assert result.speedup("b", "c") is None
    assert result.memory_ratio("b", "a") is None
    assert result.memory_ratio("a", "b") is None


@pytest.mark.parametrize("failing_run", [1, 2])
def test_nothing_stays_frozen_after_an_error(failing_run):
    calls = []

    def run():
        calls.append(1)
        if len(calls) == failing_run:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        measured({"a": Contestant(run)}, rounds=1)
    assert gc.get_freeze_count() == 0
