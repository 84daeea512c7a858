"""Kill trainings at random moments, resume them, and compare them with an unbroken one, bit by bit.

    python -m experiments.crash_test --kills 20
    python -m experiments.crash_test --kills 40 --processes 1 2 --workers 0 2 --output /tmp/t

A training of seconds on drawn shapes runs once unbroken, and then under ``kill -9`` of all its
processes: at any moment, within the writing of checkpoints, and within evaluations. Compared are
weights, optimizer, scheduler, normaliser, seeds, metrics and detections. The folder then has
torture.md, the runs, and what they printed. Linux only.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from experiments.crash_test.job import write_job
from experiments.crash_test.report import write_report
from experiments.crash_test.runs import in_a_process
from experiments.crash_test.siege import Siege, besiege, run_unbroken
from focal_retina.tools.command_line import tool_parser


def main(argv: list[str] | None = None) -> int:
    """Torture; return 0, 1 if a resumed run differs or fails, or 2 after one sentence."""
    args = parse_arguments(argv)
    output = Path(args.output).absolute()
    if output.exists() and any(output.iterdir()):
        print(f"torture: {output} is not empty: name another --output", file=sys.stderr)
        return 2
    output.mkdir(parents=True, exist_ok=True)
    sieges = []
    try:
        for siege in torture(args, output):
            sieges.append(siege)
            print(summary(siege), flush=True)
    except RuntimeError as error:
        print(f"torture: {error}", file=sys.stderr)
        return 1
    print(write_report(output / "torture.md", args, sieges))
    return 1 if any(siege.differences for siege in sieges) else 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = tool_parser("crash_test", __doc__, "experiments")
    parser.add_argument("--kills", type=int, default=20, help="of each combination (20)")
    parser.add_argument("--processes", type=int, nargs="+", default=[1], help="(1)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0], help="of the data (0)")
    parser.add_argument("--iterations", type=int, default=40, help="of a training (40)")
    parser.add_argument("--output", default="output/torture", help="folder (output/torture)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    return parser.parse_args(argv)


def torture(args: argparse.Namespace, output: Path) -> Iterator[Siege]:
    """Yield what happened with each combination of processes and workers.

    All runs of a number of processes are compared with one that was unbroken and had the first
    number of workers.
    """
    for processes in args.processes:
        unbroken = output / f"processes{processes}_unbroken"
        seconds = None
        for workers in args.workers:
            config_file = output / f"workers{workers}.yaml"
            if not in_a_process(
                lambda: write_job(output, args.iterations, workers),  # noqa: B023
                output / "drawing.txt",
            ):
                raise RuntimeError(f"the images cannot be drawn, see {output}/drawing.txt")
            seconds = seconds or run_unbroken(config_file, unbroken, processes)
            siege = Siege(processes, workers)
            besiege(config_file, unbroken, seconds, args.kills, siege, args.seed)
            yield siege


def summary(siege: Siege) -> str:
    """Return one line on a combination."""
    verdict = f"{len(siege.differences)} DIFFERENCES" if siege.differences else "no difference"
    return (
        f"{siege.processes} process(es), {siege.workers} worker(s): {len(siege.kills)} kills, "
        f"{siege.runs} run(s), {verdict}"
    )


if __name__ == "__main__":
    sys.exit(main())
