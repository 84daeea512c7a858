"""From the command line to processes: one, several on this machine, or those of torchrun."""

import os
import socket
import sys
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from detectron2.engine import default_argument_parser
from detectron2.engine.launch import DEFAULT_TIMEOUT
from detectron2.utils import comm
from torch import distributed, multiprocessing

from focal_retina.engine import lazy_job, yaml_job

# Exit status of a user's mistake, as argparse has it.
_MISTAKE = 2
# Packages whose ValueErrors name the setting at fault; one raised by anything else is a bug.
_WELL_SPOKEN = ("focal_retina", "detectron2", "fvcore")


def argument_parser(epilog: str | None = None) -> ArgumentParser:
    """Return the parser of Detectron2's arguments and ``--trust-config``."""
    parser = default_argument_parser(epilog)
    parser.add_argument(
        "--trust-config",
        action="store_true",
        help="let Python tags in the YAML config run their code",
    )
    return parser


def main(args: Namespace) -> None:
    """Train or evaluate, in as many processes as torchrun started or ``args`` ask for.

    Without CUDA, ``--num-gpus 2`` means two processes that talk through gloo. A user's mistake
    ends the program with one sentence and status 2; any other error keeps its traceback.
    """
    if {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"} <= os.environ.keys():
        rank, world_size, local_rank, local_size = (
            int(os.environ[key]) for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        )
        _join("env://", rank, world_size, local_rank, local_size)
        _run(args)
        distributed.destroy_process_group()
    elif args.num_gpus * args.num_machines > 1:
        _spawn(args)
    else:
        _run(args)


def _run(args: Namespace) -> None:
    with _mistakes_in_one_sentence():
        job = _kind(args).prepare(args)
    job()


def _kind(args: Namespace):
    """The module that knows the kind of config."""
    if not args.config_file:
        raise ValueError("--config-file is missing")
    return lazy_job if args.config_file.endswith(".py") else yaml_job


def _spawn(args: Namespace) -> None:
    with _mistakes_in_one_sentence():
        gpus = torch.cuda.device_count()
        if 0 < gpus < args.num_gpus:
            raise ValueError(f"--num-gpus {args.num_gpus}, but this machine has {gpus} GPUs")
        if args.dist_url == "auto" and args.num_machines > 1:
            raise ValueError("--dist-url auto is for one machine; several need a common address")
        # Loaded here only to report a mistake once rather than from every process.
        _kind(args).load(args)
    if args.dist_url == "auto":
        args.dist_url = f"tcp://127.0.0.1:{_free_port()}"
    try:
        multiprocessing.spawn(_run_worker, args=(args,), nprocs=args.num_gpus)
    except multiprocessing.ProcessExitedException as error:
        if error.exit_code != _MISTAKE:
            raise
        sys.exit(_MISTAKE)


def _run_worker(local_rank: int, args: Namespace) -> None:
    rank = args.machine_rank * args.num_gpus + local_rank
    _join(args.dist_url, rank, args.num_gpus * args.num_machines, local_rank, args.num_gpus)
    _run(args)
    distributed.destroy_process_group()


def _join(url: str, rank: int, world_size: int, local_rank: int, local_size: int) -> None:
    """Join the other processes, as Detectron2's ``launch`` does, also where there is no GPU."""
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
    else:  # the processes share the cores
        torch.set_num_threads(max(1, torch.get_num_threads() // local_size))
    distributed.init_process_group(
        "nccl" if torch.cuda.is_available() else "gloo",
        init_method=url,
        rank=rank,
        world_size=world_size,
        timeout=DEFAULT_TIMEOUT,
    )
    # Detectron2 0.6 has no function for this.
    comm._LOCAL_PROCESS_GROUP, _ = distributed.new_subgroups(local_size)
    comm.synchronize()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def _mistakes_in_one_sentence() -> Iterator[None]:
    """Print a well-spoken ValueError in one line, and exit."""
    try:
        yield
    except ValueError as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").split(".")[0] not in _WELL_SPOKEN:
            raise
        sentence = " ".join(str(error).split())
        print(f"{os.path.basename(sys.argv[0])}: error: {sentence}", file=sys.stderr)
        sys.exit(_MISTAKE)
