"""A process that has left the others ends in peace."""

from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from helpers.processes import run_processes
from torch.nn.parallel import DistributedDataParallel

from focal_retina.distributed import leave

pytestmark = [pytest.mark.slow, pytest.mark.distributed]


def count_gloo_threads():
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    return sum("gloo" in name for name in names)


def use_the_group():
    model = DistributedDataParallel(torch.nn.Linear(2, 2))
    model(torch.ones(1, 2)).sum().backward()
    model.cycle = [model]  # what refers to itself waits for the garbage collector
    assert comm.all_gather(comm.get_rank()) == [0, 1]


def one_of_two_processes():
    use_the_group()
    assert count_gloo_threads() > 0
    leave()
    assert count_gloo_threads() == 0
    assert comm.get_world_size() == 1


def test_no_thread_of_the_group_is_left_and_leaving_again_does_no_harm():
    run_processes(2, one_of_two_processes)  # which leaves once more
