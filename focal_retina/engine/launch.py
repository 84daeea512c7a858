"""From the command line to processes: one, several on this machine, or those of torchrun."""

import os
import sys
from argparse import ArgumentParser, Namespace

import torch
from detectron2.engine import default_argument_parser, launch
from detectron2.utils import comm
from torch import multiprocessing

from focal_retina.distributed import (
    LOST_PROCESS_REMEDY,
    join_torchrun,
    leave,
    lost_process,
    why_no_meeting,
)
from focal_retina.engine import job
from focal_retina.errors import SharedError, TrainingError, UserError, report
from focal_retina.run_files import spared_output
from focal_retina.settings.plugins import add_plugin_argument, load_plugin
from focal_retina.settings.rules import whole
from focal_retina.terminal import make_output_safe
from focal_retina.training.interruption import forwarding, listening

_TORCHRUN = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"}


def argument_parser(epilog: str | None = None) -> ArgumentParser:
    """Return the parser of Detectron2's arguments, ``--trust-config`` and ``--plugin``."""
    parser = default_argument_parser(epilog)
    parser.set_defaults(dist_url="auto")
    parser.add_argument(
        "--trust-config",
        action="store_true",
        help="let Python tags in the YAML config run their code",
    )
    add_plugin_argument(parser)
    return parser


def main(args: Namespace) -> None:
    """Train or evaluate, in as many processes as ``args`` or torchrun ask for.

    Without CUDA, ``--num-gpus 2`` means two processes that talk through gloo. A user's mistake
    ends the program with one sentence and status 2, a training that cannot go on with status 3, a
    signal with 130 or 143; a bug keeps its traceback.
    """
    with listening(), spared_output():
        if _TORCHRUN <= os.environ.keys():
            join_torchrun()
            _run(args)
            return
        try:
            _check(args)
            _launch(args)
        except UserError as error:
            sys.exit(report(error))


def _launch(args: Namespace) -> None:
    if args.num_gpus * args.num_machines == 1:
        return _run(args)
    machines = (args.num_machines, args.machine_rank, args.dist_url)
    with forwarding() as signals:
        try:
            launch(_run, args.num_gpus, *machines, args=(args,))
        except multiprocessing.ProcessExitedException as error:
            if signals:
                sys.exit(128 + signals[0])
            if error.exit_code < 0:
                sentence = f"process {error.error_index} was ended by {error.signal_name}"
                sys.exit(report(TrainingError(f"{sentence}: {LOST_PROCESS_REMEDY}")))
            if error.exit_code == 1:  # a bug, which has its traceback
                raise
            sys.exit(error.exit_code)  # the process has told why


def _check(args: Namespace) -> None:
    """Check the arguments and, before several processes each find its mistakes, the config."""
    whole(1, 1000).check("--num-gpus", args.num_gpus)
    whole(1, 10_000).check("--num-machines", args.num_machines)
    whole(0, args.num_machines - 1).check("--machine-rank", args.machine_rank)
    if args.num_gpus * args.num_machines == 1:
        return
    gpus = torch.cuda.device_count()
    if 0 < gpus < args.num_gpus:
        raise UserError(f"--num-gpus {args.num_gpus}, but this machine has {gpus} GPUs")
    if args.dist_url == "auto" and args.num_machines > 1:
        raise UserError("--dist-url auto is for one machine; give tcp://HOST:PORT")
    if args.dist_url != "auto" and (reason := why_no_meeting(args.dist_url, args.machine_rank)):
        raise UserError(f"--dist-url {args.dist_url} {reason}")
    job.load(args.config_file, args.opts, trust_config=args.trust_config, eval_only=args.eval_only)


def _run(args: Namespace) -> None:
    """Run the job as one of its processes, and leave the others."""
    for plugin in args.plugin:
        load_plugin(plugin)
    make_output_safe()
    if not torch.cuda.is_available():  # the processes share the cores
        torch.set_num_threads(max(1, torch.get_num_threads() // comm.get_local_size()))
    with listening(), spared_output():  # in this process, where it is another than main's
        status = _run_job(args)
        leave()  # when nothing refers to the job any more
    if status:
        sys.exit(status)


def _run_job(args: Namespace) -> int:
    """Train or evaluate; return the status with which the process is to end."""
    try:
        job.prepare(
            args.config_file,
            args.opts,
            trust_config=args.trust_config,
            eval_only=args.eval_only,
            resume=args.resume,
        )()
    except (SharedError, TrainingError) as error:
        # All processes have it, and the end of one would kill the others before the report.
        status = report(error) if comm.is_main_process() else error.status
        comm.synchronize()
        return status
    except UserError as error:  # of this process alone
        return report(error)
    except RuntimeError as error:
        sentence = lost_process(error)
        if sentence is None:
            raise
        return report(TrainingError(sentence)) if comm.is_main_process() else TrainingError.status
    except SystemExit as end:  # where the results are not the expected ones
        return end.code
    return 0
