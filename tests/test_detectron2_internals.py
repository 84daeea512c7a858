"""The private names that we lean on still mean what they meant."""

from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.data.samplers import RandomSubsetTrainingSampler, TrainingSampler
from torch import nn

from focal_retina.detectron2_internals import OpenCheckpointer, sampler_state, set_sampler_state


class Recording(OpenCheckpointer):
    """Remember what the steps of loading get and return."""

    def load_file(self, filename):
        self.asked = self.asks_for_matching()
        content = super().load_file(filename)
        self.names = list(content["model"])
        return content

    def load_model(self, checkpoint):
        self.incompatible = super().load_model(checkpoint)
        return self.incompatible


def test_the_steps_of_a_checkpointer_are_called_by_their_public_names(tmp_path):
    path = str(tmp_path / "a.pth")
    torch.save({"model": {"weight": torch.ones(2, 1)}}, path)
    checkpointer = Recording(nn.Linear(1, 2))
    checkpointer.load(path)
    assert checkpointer.names == ["weight"]
    assert checkpointer.incompatible.missing_keys == ["bias"]
    assert checkpointer.model.weight.tolist() == [[1], [1]]
    assert not checkpointer.asked
    checkpointer.load(f"{path}?matching_heuristics=True")
    assert checkpointer.asked


def test_arrays_become_tensors_in_place():
    weights = {"a": np.ones(2, np.float32)}
    OpenCheckpointer(nn.Linear(1, 1)).arrays_to_tensors(weights)
    assert torch.equal(weights["a"], torch.ones(2))


@pytest.mark.parametrize("kind", [TrainingSampler, RandomSubsetTrainingSampler])
def test_a_sampler_with_the_state_of_another_gives_its_indices(kind):
    arguments = (9,) if kind is TrainingSampler else (9, 0.5)
    one, other = kind(*arguments), kind(*arguments)
    one._rank, one._world_size = 1, 2  # of another process
    set_sampler_state(other, sampler_state(one))
    assert (other._rank, other._world_size) == (0, 1)
    assert list(islice(one, 9)) == list(islice(other, 1, 18, 2))
