"""How a process joins those that train with it, shares the model with them, and leaves them."""

import gc
import os

import torch
from detectron2.engine.defaults import create_ddp_model
from detectron2.utils import comm
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from focal_retina.detectron2_internals import forget_process_groups


def join_torchrun() -> None:
    """Join the processes that torchrun started, as Detectron2's ``launch`` joins its own."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
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
