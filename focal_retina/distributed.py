"""How a process joins those that train with it, and how it leaves them."""

import gc
import os

import torch
from detectron2.utils import comm
from torch import distributed


def join_torchrun() -> None:
    """Join the processes that torchrun started, as Detectron2's ``launch`` joins its own."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    # Detectron2 0.6 has no function for this.
    local_size = int(os.environ["LOCAL_WORLD_SIZE"])
    comm._LOCAL_PROCESS_GROUP, _ = distributed.new_subgroups(local_size)
    comm.synchronize()


def leave() -> None:
    """Leave the other processes, if any, at the end of this one.

    The threads of gloo live as long as anything refers to a group. Python's own end aborts a
    process in which they still run, now and then, and its exit status is lost.
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()
        comm._LOCAL_PROCESS_GROUP = None
        comm._get_global_gloo_group.cache_clear()
        gc.collect()  # a model in DistributedDataParallel may wait for it
