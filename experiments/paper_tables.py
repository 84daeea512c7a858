"""Reproduce the paper's tables: Table 1a to 1e, 2 and 3.

    python -m experiments.paper_tables list
    python -m experiments.paper_tables run 1b --preset mini --seeds 2
    python -m experiments.paper_tables run 1a-alpha-.75 --num-gpus 8
    python -m experiments.paper_tables report

Run this from the checkout. After an interruption, give the same command again: it goes on, and
skips finished rows. A preset is "full" (the paper's scale), "mini" (minutes on a CPU), or a YAML
file with keys of a config to change, such as DATASETS and SOLVER; see experiments/paper/presets/.
"""

import argparse
import shlex
import signal
import sys
from pathlib import Path

from tabulate import tabulate

from experiments.paper.jobs import make_job
from experiments.paper.measured import load_measured
from experiments.paper.preset import load_preset
from experiments.paper.report import COMMANDS_FILE, measure_speeds, write_report
from experiments.paper.rows import select_rows
from experiments.paper.run_jobs import run_jobs
from focal_retina.errors import UserError, reports_errors
from focal_retina.tools.command_line import count, make_output_folder, tool_parser


@reports_errors("paper_tables")
def main(argv: list[str] | None = None) -> int:
    """Return 0, 1 if rows failed, or 2 after one sentence on what is wrong with the arguments."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse_arguments(argv)
    return args.command(args, argv)


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = tool_parser("paper_tables", __doc__, "experiments")
    commands = parser.add_subparsers(required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--output", default="output/paper_tables", help="(output/paper_tables)")
    listing = commands.add_parser("list", parents=[common], help="all rows, with measured AP")
    listing.set_defaults(command=list_rows)
    run = commands.add_parser("run", parents=[common], help="train and evaluate rows")
    run.add_argument("names", nargs="+", metavar="TABLE|ROW", help="such as 1a or 1a-alpha-.75")
    run.add_argument("--preset", default="full", help="full, mini or a YAML file (full)")
    run.add_argument("--seeds", type=count(), default=1, help="trainings of each row (1)")
    run.add_argument("--num-gpus", type=count(), default=1, help="processes of each training (1)")
    run.set_defaults(command=run_rows)
    report = commands.add_parser(
        "report", parents=[common], help="write report.md, report.csv and pictures"
    )
    report.set_defaults(command=report_rows)
    return parser.parse_args(argv)


def list_rows(args: argparse.Namespace, argv: list[str]) -> int:
    lines = []
    for r in load_measured(Path(args.output)):
        mean = r.mean("AP")
        measured = "; ".join(r.notes) if mean is None else f"{mean:.1f}"
        lines.append([r.row.id, r.row.dataset, f"{r.row.published['AP']:.1f}", measured])
    print(tabulate(lines, ["row", "published on", "AP", "measured AP"], disable_numparse=True))
    return 0


def run_rows(args: argparse.Namespace, argv: list[str]) -> int:
    preset, rows = load_preset(args.preset), select_rows(args.names)
    output = make_output_folder(args.output)
    jobs = [
        make_job(row, seed, preset, output, args.num_gpus)
        for row in rows
        for seed in range(1, args.seeds + 1)
    ]
    _remember(output, argv)
    # Ends the training's process too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    failed = run_jobs(jobs, say=lambda line: print(line, flush=True))
    return 1 if failed else 0


def _remember(output: Path, argv: list[str]) -> None:
    """Keep the command for the report, once."""
    path = output / COMMANDS_FILE
    commands = path.read_text().splitlines() if path.exists() else []
    command = shlex.join(["python", "-m", "experiments.paper_tables", *argv])
    path.write_text("\n".join(dict.fromkeys([*commands, command])) + "\n")


def report_rows(args: argparse.Namespace, argv: list[str]) -> int:
    output = Path(args.output)
    if not output.is_dir():
        raise UserError(f"there is no folder {output}; run rows first, or name their --output")
    measure_speeds(output)
    print(write_report(output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
