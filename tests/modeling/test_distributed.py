"""Two processes with half the batch each are one process with all of it."""

import pytest
import torch
from detectron2.utils import comm
from helpers.processes import run_processes
from helpers.small_models import losses_and_gradients, tiny_batch, tiny_model
from torch.nn.parallel import DistributedDataParallel

import focal_retina  # noqa: F401  the spawned processes need the registered parts

BACKENDS = ("reference", "torch")


def train(folder):
    """Take two steps on this process's share of each batch; the main process saves the outcome."""
    torch.set_num_threads(1)
    rank, world = comm.get_rank(), comm.get_world_size()
    for backend in BACKENDS:
        model = tiny_model(NORMALIZER="all_gpus", BACKEND=backend)
        wrapped = DistributedDataParallel(model) if world > 1 else model
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        curve = []
        for step in range(2):
            batch = tiny_batch([3, 0, 1, 6], (64, 96), seed=step)
            losses, _ = losses_and_gradients(wrapped, batch[rank::world])
            optimizer.step()
            gathered = comm.all_gather({k: v.item() for k, v in losses.items()})
            curve.append([sum(x[k] for x in gathered) / world for k in losses])
        if rank == 0:
            outcome = {"curve": torch.tensor(curve), "model": model.state_dict()}
            torch.save(outcome, folder / f"{backend}-{world}.pth")


@pytest.mark.distributed
@pytest.mark.slow
def test_losses_and_weights_do_not_depend_on_the_number_of_processes(tmp_path):
    for world in (1, 2):
        run_processes(world, train, tmp_path)
    for name in BACKENDS:
        one, two = (torch.load(tmp_path / f"{name}-{n}.pth", weights_only=True) for n in (1, 2))
        assert torch.allclose(two["curve"], one["curve"], rtol=1e-5)
        torch.testing.assert_close(two["model"], one["model"], rtol=1e-4, atol=1e-6)
