"""How much of a training step is outside convolutions."""

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from experiments.benchmark.inputs import Setting
from experiments.benchmark.measuring import synchronize
from experiments.benchmark.whole import training_cases

NUM_OPERATORS = 8


@dataclass
class Share:
    """Where a training step's time went."""

    seconds: float  # of the whole step, under the profiler
    outside_convolutions: float  # fraction of it
    largest: dict[str, float]  # fraction of the operators that take most of it


def convolution_shares(setting: Setting) -> dict[str, Share]:
    """Return the shares of a step of one image in fp32, of Detectron2's model and of ours."""
    case = next(training_cases(setting, (("Detectron2", "fp32"), ("focal_retina", "fp32"))))
    return {name: profiled_share(c.run, setting) for name, c in case.contestants.items()}


def profiled_share(run: Callable[[], Any], setting: Setting) -> Share:
    """Profile one run, after another to warm up.

    The time of convolutions is the self time, on CUDA that of the kernels, of the operators with
    "conv" in their names, forward and backward, and of all within a ``WinogradConvolution``. The
    rest of the wall time is outside, that between operators too.
    """
    device = torch.device(setting.device)
    run()
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        start = time.perf_counter()
        run()
        synchronize(device)
        seconds = time.perf_counter() - start
    self_time = f"self_{'device' if device.type == 'cuda' else 'cpu'}_time_total"  # microseconds
    shares = Counter()
    for event in profiler.events():
        shares[_operator(event)] += getattr(event, self_time) / 1e6 / seconds
    convolutions = sum(x for name, x in shares.items() if re.match("aten::.*conv|Winograd", name))
    largest = sorted(shares, key=shares.get, reverse=True)[:NUM_OPERATORS]
    return Share(seconds, 1 - convolutions, {name: shares[name] for name in largest})


def _operator(event: FunctionEvent) -> str:
    """Return the name of an operator, or of the Winograd convolution that it is part of."""
    outer = event
    while outer is not None and not outer.name.startswith("Winograd"):
        outer = outer.cpu_parent
    return (outer or event).name
