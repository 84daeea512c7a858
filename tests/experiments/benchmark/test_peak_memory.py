"""Peak memory is what a run needs, whatever the process did before."""

import pytest
import torch

from experiments.benchmark.case import Case, Implementation
from experiments.benchmark.peak_memory import freed_memory_given_back, peak_memories, peak_memory
from focal_retina.ops.memory import reused_empty_like

CPU = torch.device("cpu")
needs_peak = pytest.mark.skipif(
    peak_memory(lambda: None, CPU) is None, reason="this system does not tell the peak"
)


def allocate(mib):
    return torch.ones(mib * 2**18)


@needs_peak
@pytest.mark.parametrize("run", [allocate, lambda mib: allocate(mib)[:0].clone()])
def test_peak_memory_counts_the_result_and_what_the_run_itself_frees(run):
    with freed_memory_given_back():
        assert peak_memory(lambda: run(64), CPU) == pytest.approx(64, abs=4)


@needs_peak
def test_memory_freed_before_does_not_hide_that_of_a_run():
    # Blocks of a size that has been freed before come from the heap, and leave holes there.
    for _ in range(2):
        blocks = [allocate(1) for _ in range(64)]
        del blocks[::2]
    with freed_memory_given_back():
        peak = peak_memory(lambda: [allocate(1) for _ in range(32)], CPU)
    assert peak == pytest.approx(32, abs=4)


@needs_peak
def test_memory_is_that_of_the_second_run_and_scaled_limits_have_none():
    sizes = iter([64, 16])
    implementations = {
        "a": Implementation(lambda: allocate(next(sizes))),
        "limit": Implementation(lambda: None, calls=2),
    }
    with freed_memory_given_back():
        peaks = peak_memories(Case("group", "name", "a", implementations), CPU)
    assert peaks == {"a": pytest.approx(16, abs=4)}


@needs_peak
def test_memory_that_the_loss_keeps_for_its_next_call_does_not_hide_what_it_takes():
    like = [torch.empty(64 * 2**18, device="meta")]

    def fill():
        reused_empty_like(like)[0].fill_(1)

    fill()
    with freed_memory_given_back():
        assert peak_memory(fill, CPU) == pytest.approx(64, abs=4)
