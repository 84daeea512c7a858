"""Contestants run in turns, times are medians, memory is the peak of a run."""

import gc
import time

import pytest
import torch

from focal_retina.benchmark import measuring
from focal_retina.benchmark.measuring import Case, CaseResult, Contestant, Measurement, measure

CPU = torch.device("cpu")


def case_of(**contestants):
    return Case("group", "name", next(iter(contestants)), contestants)


def test_contestants_run_in_turns_after_one_run_each_to_warm_up_and_one_for_memory():
    calls = []
    case = case_of(a=Contestant(lambda: calls.append("a")), b=Contestant(lambda: calls.append("b")))
    result = measure(case, CPU, rounds=3, min_seconds=0)
    assert calls == ["a", "b"] * 5
    assert [len(m.times) for m in result.measurements.values()] == [3, 3]


def test_rounds_go_on_until_they_have_taken_the_least_time():
    case = case_of(a=Contestant(lambda: time.sleep(0.01)))
    times = measure(case, CPU, rounds=2, min_seconds=0.05).measurements["a"].times
    assert 2 < len(times) <= 6


def test_rounds_of_the_fastest_end_at_ten_times_the_number_asked_for():
    case = case_of(a=Contestant(lambda: None))
    assert len(measure(case, CPU, rounds=2, min_seconds=9).measurements["a"].times) == 20


def test_the_time_is_the_median_over_rounds():
    assert Measurement([5.0, 1.0, 2.0], None).seconds == 2.0


def test_a_limits_time_is_that_of_all_its_calls_and_its_memory_is_not_measured():
    case = case_of(one=Contestant(sleep), ten=Contestant(sleep, calls=10))
    measurements = measure(case, CPU, rounds=3, min_seconds=0).measurements
    assert measurements["ten"].seconds == pytest.approx(10 * measurements["one"].seconds, rel=0.5)
    assert measurements["ten"].peak_mib is None


def sleep():
    time.sleep(0.01)


def test_garbage_collection_is_off_in_timed_runs_and_on_again_afterwards():
    seen = []
    measure(case_of(a=Contestant(lambda: seen.append(gc.isenabled()))), CPU, rounds=1)
    assert not seen[-1]
    assert gc.isenabled()


@pytest.mark.skipif(
    measuring.peak_memory(lambda: None, CPU) is None, reason="this system does not tell the peak"
)
def test_peak_memory_counts_what_a_run_frees_itself_and_not_what_was_freed_before():
    def allocate(mib):
        torch.ones(mib * 2**18)

    allocate(200)
    assert measuring.peak_memory(lambda: allocate(64), CPU) == pytest.approx(64, abs=8)


def test_ratios_are_none_where_a_contestant_or_its_memory_is_missing():
    measurements = {"a": Measurement([2.0], 10.0), "b": Measurement([1.0], None)}
    result = CaseResult("group", "name", "a", measurements, 0, "")
    assert result.speedup("b", "a") == 2.0
    assert result.memory_ratio("a", "a") == 1.0
    assert result.speedup("b", "c") is None
    assert result.memory_ratio("b", "a") is None
    assert result.memory_ratio("a", "b") is None
