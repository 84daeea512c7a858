"""How a process joins those that train with it, shares the model with them, and leaves them."""

import gc
import os
import re
import socket

import torch
from detectron2.engine.defaults import create_ddp_model
from detectron2.utils import comm
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from focal_retina.detectron2_internals import forget_process_groups

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


def why_no_meeting(url: str, machine_rank: int) -> str | None:
    """Return what keeps processes from meeting at a URL of ``init_process_group``; None if nothing.

    PyTorch would end in a traceback or wait for half an hour.
    """
    if url.startswith("file://"):
        path = url.removeprefix("file://")
        if not os.access(os.path.dirname(path), os.W_OK):
            return "is in no folder that can be written; name another, or auto"
        is_old = os.path.exists(path)
        return "is the file of another run; remove it, or give auto" if is_old else None
    if url.startswith("env://"):
        missing = {"MASTER_ADDR", "MASTER_PORT"} - os.environ.keys()
        if missing:
            return f"needs the environment variables {' and '.join(sorted(missing))}; or give auto"
        url = "tcp://{MASTER_ADDR}:{MASTER_PORT}".format(**os.environ)
    address = re.fullmatch(r"tcp://(?:\[(.+)\]|([^/:]+)):(\d{1,5})/?", url)
    if not address or not 0 < int(address[3]) < 2**16:
        return "is neither auto nor tcp://HOST:PORT with a port from 1 to 65535"
    host, port = address[1] or address[2], int(address[3])
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        if machine_rank == 0:  # which serves on the port
            socket.create_server(("", port), family=family).close()
    except socket.gaierror as error:
        return f"names an unknown host: {error.strerror}; give tcp://HOST:PORT, or auto"
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        return f"cannot be used ({reason}): give another port, or auto for a free one"
    return None


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
