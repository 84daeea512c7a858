"""How a process joins those that train with it, shares the model with them, and leaves them."""

import gc
import os
import re

import torch
from detectron2.engine.defaults import create_ddp_model
from detectron2.utils import comm
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from focal_retina.detectron2_internals import forget_process_groups, set_local_process_group

LOST_PROCESS_REMEDY = (
    "look whether memory or /dev/shm was full (dmesg, free -h, df -h /dev/shm; fewer data workers "
    "need less); --resume goes on from the last checkpoint"
)
# Of PyTorch's data loader and of its collectives.
_LOST_WORKER = re.compile(
    r"DataLoader worker \(pid.*?\) (is killed|exited)[^.]*|unable to \w+ [^.]*/torch_"
)
_LOST_PEER = re.compile("gloo|NCCL|onnection (closed|reset|refused)")


def lost_process(error: RuntimeError) -> str | None:
    """Return a sentence where an error means that another process of the run has ended."""
    if found := _LOST_WORKER.search(str(error)):
        return f"{found[0]}: {LOST_PROCESS_REMEDY}"
    if isinstance(error, distributed.DistError) or _LOST_PEER.search(str(error)):
        return f"another process of the run has ended: {LOST_PROCESS_REMEDY}"
    return None


def join_torchrun() -> None:
    """Join the processes that torchrun started, as Detectron2's ``launch`` joins its own."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    # Detectron2 0.6 has no function for this.
    local_size = int(os.environ["LOCAL_WORLD_SIZE"])
    set_local_process_group(distributed.new_subgroups(local_size)[0])
    comm.synchronize()


def leave() -> None:
    """Leave the other processes, if any, at the end of this one.

    The threads of gloo live as long as anything refers to a group. Python's own end aborts a
    process in which they still run, now and then, and its exit status is lost.
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()
        forget_process_groups()
        gc.collect()  # a model in DistributedDataParallel may wait for it


def distribute(model: nn.Module, **kwargs) -> nn.Module:
    """Wrap the model in ``DistributedDataParallel(**kwargs)`` if there are several processes."""
    if next(model.parameters()).device.type == "cpu":
        kwargs["device_ids"] = None  # which Detectron2 would set as for a GPU
    return create_ddp_model(model, **kwargs)


def without_ddp(model: nn.Module) -> nn.Module:
    """Undo :func:`distribute`."""
    return model.module if isinstance(model, DistributedDataParallel) else model
