"""Two processes with half the batch each are one process with all of it."""

import pytest
import torch
from detectron2.utils import comm
from helpers.processes import run_processes
from helpers.small_models import losses_and_gradients, tiny_batch, tiny_model
from torch.nn.parallel import DistributedDataParallel

import focal_retina  # noqa: F401  the spawned processes need the registered parts


def train(output, backend):
    """Take two steps on this process's share of the batch; the main process saves the outcome."""
    torch.set_num_threads(1)
    rank, world = comm.get_rank(), comm.get_world_size()
    model = tiny_model(NORMALIZER="all_gpus", BACKEND=backend).train()
    wrapped = DistributedDataParallel(model) if world > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    curve = []
    for step in range(2):
        batch = tiny_batch([3, 0, 1, 6], (64, 96), seed=step)
        losses, _ = losses_and_gradients(wrapped, batch[rank::world])
        optimizer.step()
        gathered = comm.gather({k: v.item() for k, v in losses.items()})
        curve.append([sum(x[k] for x in gathered) / world for k in losses] if gathered else None)
    if rank == 0:
        torch.save({"curve": torch.tensor(curve), "model": model.state_dict()}, output)


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_losses_and_weights_do_not_depend_on_the_number_of_processes(tmp_path, backend):
    for world in (1, 2):
        run_processes(world, train, tmp_path / f"{world}.pth", backend)
    one, two = (torch.load(tmp_path / f"{w}.pth", weights_only=True) for w in (1, 2))
    assert torch.allclose(two["curve"], one["curve"], rtol=1e-5)
    for name, weight in one["model"].items():
        assert torch.allclose(two["model"][name], weight, rtol=1e-4, atol=1e-6), name
