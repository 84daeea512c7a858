"""What two finished runs must have in common to be the same."""

import json

import torch

from experiments.crash_test.comparison import TIMES, unequal, without_times


def metrics(folder):
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def final_state(folder):
    return without_times(torch.load(folder / "model_final.pth", weights_only=True))


def check_same(folder, unbroken):
    assert list(unequal(final_state(folder), final_state(unbroken))) == []
    assert metrics(folder) == metrics(unbroken)
