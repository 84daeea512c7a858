"""Kill trainings at random moments, resume them, and compare them with an unbroken one, bit by bit.

    python -m experiments.crash_test --kills 20
    python -m experiments.crash_test --kills 7 --faults 8 --processes 1 2 --workers 0 2 \\
        --report docs/results/crash_test.md

First a training of some seconds on drawn shapes runs without a kill. Then the same training is
killed again and again, with all its processes, by SIGKILL: at any moment, while it writes a
checkpoint, and while it evaluates. In the end both runs must have the same weights, optimizer,
scheduler, normaliser, seeds, metrics and detections. The output folder then holds crash_test.md,
the runs, and what they printed. Run this from the checkout; it works on Linux only.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from experiments.crash_test.kills import CrashTest, kill_and_resume, train_unbroken
from experiments.crash_test.report import write_report
from experiments.crash_test.training_config import config_file, write_configs
from experiments.crash_test.training_run import succeeds_in_a_process
from focal_retina.errors import TrainingError, UserError, reports_errors
from focal_retina.tools.command_line import count, make_output_folder, tool_parser


@reports_errors("crash_test")
def main(argv: list[str] | None = None) -> int:
    """Return 0, 1 if a resumed run differs, 2 for wrong arguments, 3 if a training fails."""
    args = parse_arguments(argv)
    output = make_output_folder(args.output).absolute()
    if any(output.iterdir()):
        raise UserError(f"{output} is not empty: name another --output")
    tests = []
    for test in run_crash_tests(args, output):
        tests.append(test)
        print(test.summary(), flush=True)
    print(write_report(Path(args.report or output / "crash_test.md"), args.iterations, tests))
    return 1 if any(test.differences for test in tests) else 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = tool_parser("crash_test", __doc__, "experiments")
    parser.add_argument(
        "--kills",
        type=count(),
        default=20,
        help="of each combination of processes and workers (20)",
    )
    parser.add_argument(
        "--faults",
        type=count(0),
        default=0,
        help="other faults than kills: one process killed, signals, full disks, closed output, two "
        "runs in a folder (0)",
    )
    parser.add_argument("--report", help="Markdown file (crash_test.md in --output)")
    parser.add_argument("--processes", type=count(), nargs="+", default=[1], help="(1)")
    parser.add_argument(
        "--workers", type=count(0), nargs="+", default=[0], help="of the data loader (0)"
    )
    parser.add_argument("--iterations", type=count(), default=40, help="of a training (40)")
    parser.add_argument("--output", default="output/crash_test", help="folder (output/crash_test)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (0)")
    return parser.parse_args(argv)


def run_crash_tests(args: argparse.Namespace, output: Path) -> Iterator[CrashTest]:
    """Yield what happened with each combination of processes and workers.

    All runs with the same number of processes are compared with one unbroken run, which has the
    first number of workers.
    """
    log = output / "drawing.txt"
    if not succeeds_in_a_process(lambda: write_configs(output, args.iterations, args.workers), log):
        raise TrainingError(f"the images cannot be drawn, see {log}")
    for processes in args.processes:
        unbroken = output / f"processes{processes}_unbroken"
        seconds = train_unbroken(config_file(output, args.workers[0]), unbroken, processes)
        for workers in args.workers:
            test = CrashTest(config_file(output, workers), processes, workers)
            kill_and_resume(test, unbroken, seconds, args.kills, args.seed, args.faults)
            yield test


if __name__ == "__main__":
    sys.exit(main())
