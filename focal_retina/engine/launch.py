"""From the command line to processes: one, several on this machine, or those of torchrun."""

import os
import re
import sys
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch
from detectron2.engine import default_argument_parser, launch
from detectron2.utils import comm
from torch import multiprocessing

from focal_retina.distributed import join_torchrun, leave
from focal_retina.engine import lazy_job, yaml_job
from focal_retina.errors import ImageError, SharedError, TrainingError
from focal_retina.settings.rules import shortened, whole

# Exit status of a user's mistake, as argparse has it, and of a run that fails, see ``ending``.
_MISTAKE, _FAILED = 2, 3
_TORCHRUN = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"}
# Packages whose errors name the setting at fault; one raised by anything else is a bug.
_WELL_SPOKEN = ("focal_retina", "detectron2", "fvcore")
# As PyTorch's init_process_group takes it, and Detectron2's "auto".
_DIST_URL = re.compile(r"auto|tcp://[^/]+:\d+|(file|env)://.*")


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
    """Train or evaluate, in as many processes as ``args`` or torchrun ask for.

    Without CUDA, ``--num-gpus 2`` means two processes that talk through gloo. A user's mistake
    ends the program with one sentence and status 2, a loss that is not finite with status 3; any
    other error keeps its traceback.
    """
    with _mistakes_in_one_sentence():
        _check(args)
    if _TORCHRUN <= os.environ.keys():
        join_torchrun()
        _run(args)
        return
    if args.num_gpus * args.num_machines > 1:
        _report_mistakes_once(args)
    try:
        launch(
            _run,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except multiprocessing.ProcessExitedException as error:
        if error.exit_code not in (_MISTAKE, _FAILED):
            raise
        sys.exit(error.exit_code)


def _run(args: Namespace) -> None:
    """Run the job as one of its processes, and leave the others."""
    status = 0
    try:
        _run_job(args)
    except SystemExit as end:
        status = end.code
    leave()  # when nothing refers to the job any more
    if status:
        sys.exit(status)


def _run_job(args: Namespace) -> None:
    if not torch.cuda.is_available():  # the processes share the cores
        torch.set_num_threads(max(1, torch.get_num_threads() // comm.get_local_size()))
    with _mistakes_in_one_sentence():
        job = _kind(args).prepare(args)
    try:
        job()
    except TrainingError as error:
        _end_all(error, _FAILED)
    except ImageError as error:  # of this process alone
        _print_sentence(error)
        sys.exit(_MISTAKE)


def _check(args: Namespace) -> None:
    whole(1, 1000).check("--num-gpus", args.num_gpus)
    whole(1, 10_000).check("--num-machines", args.num_machines)
    whole(0, args.num_machines - 1).check("--machine-rank", args.machine_rank)


def _kind(args: Namespace):
    """The module that knows the kind of config."""
    if not args.config_file:
        raise ValueError("--config-file is missing")
    return lazy_job if args.config_file.endswith(".py") else yaml_job


def _report_mistakes_once(args: Namespace) -> None:
    """Load the config here, so that a mistake is not reported by every process."""
    with _mistakes_in_one_sentence():
        gpus = torch.cuda.device_count()
        if 0 < gpus < args.num_gpus:
            raise ValueError(f"--num-gpus {args.num_gpus}, but this machine has {gpus} GPUs")
        if not _DIST_URL.fullmatch(args.dist_url):
            raise ValueError(f"--dist-url {args.dist_url} is neither auto nor tcp://HOST:PORT")
        if args.dist_url == "auto" and args.num_machines > 1:
            raise ValueError("--dist-url auto is for one machine; give tcp://HOST:PORT")
        _kind(args).load(args)


@contextmanager
def _mistakes_in_one_sentence() -> Iterator[None]:
    """Print a well-spoken error in one line, and exit."""
    try:
        yield
    except (AssertionError, ValueError) as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        package = frame.f_globals.get("__name__", "").split(".")[0]
        # Detectron2 asserts much of what it takes from a config, with or without a sentence.
        is_sentence = isinstance(error, ValueError) or " " in str(error)
        if package not in _WELL_SPOKEN or not is_sentence:
            raise
        if isinstance(error, SharedError):
            _end_all(error, _MISTAKE)
        _print_sentence(error)
        sys.exit(_MISTAKE)


def _end_all(error: Exception, status: int) -> NoReturn:
    """End every process of the run, all of which have the same error, after one report."""
    if comm.is_main_process():
        _print_sentence(error)
    comm.synchronize()  # the end of one process kills the others
    sys.exit(status)


def _print_sentence(error: Exception) -> None:
    sentence = shortened(" ".join(str(error).split()), 1000)
    print(f"{os.path.basename(sys.argv[0])}: error: {sentence}", file=sys.stderr)
