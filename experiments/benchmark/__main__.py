"""Measure against other RetinaNets, other focal losses and the limits of the machine.

    python -m experiments.benchmark                     # everything, 20 minutes
    python -m experiments.benchmark --only loss labelling
    python -m experiments.benchmark --quick             # tiny sizes: does it run here?

Run this from the checkout, on a machine that does nothing else. It compares with the RetinaNets of
Detectron2 and torchvision and the losses of fvcore and torchvision, in one process, in turns. The
output folder then holds benchmark.md, benchmark.json and, of the group "scaling", scaling.png.

On a CPU the group "throughput" (a batch in low precision) runs only if --only names it. The authors
had no GPU: they have not seen how this runs on CUDA.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from experiments.benchmark.case import Case
from experiments.benchmark.cases import CASES
from experiments.benchmark.markdown_report import markdown_report
from experiments.benchmark.peak_memory import freed_memory_given_back, peak_memories
from experiments.benchmark.results import CaseResult, Report
from experiments.benchmark.scaling_plot import plot_scaling
from experiments.benchmark.setting import QUICK, Setting
from experiments.benchmark.timing import time_case
from experiments.machine import describe_machine
from focal_retina.errors import MissingExtraError, UserError, reports_errors
from focal_retina.tools.command_line import count, make_output_folder, tool_parser


@reports_errors("benchmark")
def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return 0, or 2 after one sentence on what is wrong with the arguments."""
    args = parse_arguments(argv)
    setting, groups = _setting(args), _groups(args)
    output = make_output_folder(args.output)
    report = Report(describe_machine(torch.device(args.device)), setting, args.rounds)
    with _warnings_hidden():
        # First all memory, then all times: see freed_memory_given_back.
        peaks = _measure_memory(groups, setting)
        for group in groups:
            report.cases += [_time(x, peaks[x.title], args) for x in CASES[group](setting)]
            _write(report, output)  # so that a run that is stopped leaves what it has
    print(f"Results are in {output}.")
    return 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = tool_parser("benchmark", __doc__, "experiments")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    add = parser.add_argument
    add("--only", nargs="+", choices=CASES, metavar="GROUP", help=f"of {', '.join(CASES)}")
    add("--output", default="output/benchmark", help="folder (default: %(default)s)")
    add("--device", choices=("cpu", "cuda"), default=device, help="default here: %(default)s")
    side = count(1, 20_000)
    add("--height", type=side, help=f"of the images, in pixels (default: {Setting.height})")
    add("--width", type=side, help=f"of the images, in pixels (default: {Setting.width})")
    add("--rounds", type=count(), help="least number for each case (default: 5)")
    add("--quick", action="store_true", help="one round at tiny sizes: not a measurement")
    args = parser.parse_args(argv)
    if args.rounds is None:
        args.rounds = 1 if args.quick else 5
    return args


def _setting(args: argparse.Namespace) -> Setting:
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("PyTorch finds no CUDA device here; give --device cpu")
    sizes = {"height": args.height, "width": args.width}
    given = {name: size for name, size in sizes.items() if size is not None}
    return dataclasses.replace(QUICK if args.quick else Setting(), device=args.device, **given)


def _groups(args: argparse.Namespace) -> list[str]:
    groups = args.only or [g for g in CASES if g != "throughput" or args.device == "cuda"]
    if "evaluation" in groups and importlib.util.find_spec("hotcoco") is None:
        raise MissingExtraError(
            "the group evaluation needs hotcoco; "
            "pip install 'focal_retina[eval]', or name the other groups with --only"
        )
    return groups


def _measure_memory(groups: list[str], setting: Setting) -> dict[str, dict[str, float | None]]:
    """Return the peak memories of all cases in MiB, by title and by implementation."""
    peaks = {}
    with freed_memory_given_back():
        for case in (case for group in groups for case in CASES[group](setting)):
            print(f"memory of {case.title}", flush=True)
            peaks[case.title] = peak_memories(case, torch.device(setting.device))
    return peaks


def _time(case: Case, peaks: dict[str, float | None], args: argparse.Namespace) -> CaseResult:
    """Time a case and print a line about it."""
    rounds = min(args.rounds, 3) if case.axis else args.rounds  # a trend needs fewer than a ratio
    min_seconds = 0.0 if args.quick else 1.0
    device = torch.device(args.device)
    result = time_case(case, device, peaks, rounds=rounds, min_seconds=min_seconds)
    times = [f"{name} {m.seconds * 1e3:.1f} ms" for name, m in result.measurements.items()]
    print(f"{case.title}: {', '.join(times)}", flush=True)
    return result


def _write(report: Report, folder: Path) -> None:
    content = json.dumps(dataclasses.asdict(report), indent=1)
    (folder / "benchmark.json").write_text(content + "\n")
    (folder / "benchmark.md").write_text(markdown_report(report))
    if report.series():
        plot_scaling(report.series(), folder / "scaling.png")


@contextlib.contextmanager
def _warnings_hidden() -> Iterator[None]:
    """Hide warnings: they are about the random objects, and deprecated calls of other packages."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


if __name__ == "__main__":
    sys.exit(main())
