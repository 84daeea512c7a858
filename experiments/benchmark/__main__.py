"""Measure against other RetinaNets, other focal losses and the limits of the machine.

    python -m experiments.benchmark                     # everything, 20 minutes
    python -m experiments.benchmark --only loss labelling
    python -m experiments.benchmark --quick             # tiny sizes: does it run here?

The others are Detectron2's RetinaNet, torchvision's, and fvcore's and torchvision's losses. All
run in one process, in turns; nothing else should run on the machine meanwhile. The output folder
then holds benchmark.md, benchmark.json and, of the group "scaling", scaling.png.

The group "throughput", a batch in low precision, is left out on a CPU unless asked for. The authors
had no GPU: how this runs on CUDA they have not seen.
"""

import argparse
import contextlib
import importlib.util
import itertools
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from experiments.benchmark.coco import evaluation_cases
from experiments.benchmark.inputs import Setting
from experiments.benchmark.labelling import labelling_cases
from experiments.benchmark.losses import box_loss_cases, loss_cases
from experiments.benchmark.markdown import markdown
from experiments.benchmark.measuring import Case, CaseResult, measure
from experiments.benchmark.memory import freed_memory_given_back, peak_memories
from experiments.benchmark.plot import plot_sweeps
from experiments.benchmark.postprocessing import postprocessing_cases
from experiments.benchmark.report import Report
from experiments.benchmark.scaling import SweepResult, sweeps
from experiments.benchmark.shares import convolution_shares
from experiments.benchmark.whole import inference_cases, throughput_cases, training_cases
from experiments.machine import describe_machine
from focal_retina.tools.command_line import count, tool_parser

CASES = {
    "loss": loss_cases,
    "box-loss": box_loss_cases,
    "labelling": labelling_cases,
    "post-processing": postprocessing_cases,
    "training": training_cases,
    "inference": inference_cases,
    "throughput": throughput_cases,
    "evaluation": evaluation_cases,
}
GROUPS = (*CASES, "share", "scaling")
QUICK = Setting(
    height=160,
    width=192,
    depth=18,
    num_classes=8,
    batch_size=2,
    num_evaluation_images=8,
)

Peaks = dict[tuple[str, str], dict[str, float | None]]  # MiB, by group and case, by contestant


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return 0, or 2 after one sentence on what is wrong with the arguments."""
    args = parse_arguments(argv)
    try:
        setting, groups = _setting(args), _groups(args)
        Path(args.output).mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    report = Report(describe_machine(torch.device(args.device)), setting, args.rounds)
    with _quiet():
        peaks = _measure_memory(groups, setting, args)
        for group in groups:
            _measure_group(group, report, peaks, args)
            # After every group, so that a run that is cut short leaves what it has.
            _write(report, Path(args.output))
    print(f"Results are in {args.output}.")
    return 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = tool_parser("benchmark", __doc__, "experiments")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    add = parser.add_argument
    add("--only", nargs="+", choices=GROUPS, metavar="GROUP", help=f"of {', '.join(GROUPS)}")
    add("--output", default="output/benchmark", help="folder (default: %(default)s)")
    add("--device", choices=("cpu", "cuda"), default=device, help="default here: %(default)s")
    side = count(1, 20_000)
    add("--height", type=side, help=f"of the images, in pixels (default: {Setting.height})")
    add("--width", type=side, help=f"of the images, in pixels (default: {Setting.width})")
    add("--rounds", type=int, help="of each case, at least (default: 5)")
    add("--quick", action="store_true", help="one round at tiny sizes: not a measurement")
    args = parser.parse_args(argv)
    if args.rounds is None:
        args.rounds = 1 if args.quick else 5
    return args


def _setting(args: argparse.Namespace) -> Setting:
    if args.rounds < 1:
        raise ValueError(f"--rounds is {args.rounds}; give at least 1")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("PyTorch finds no CUDA device here; give --device cpu")
    given = {"height": args.height, "width": args.width}
    given = {name: value for name, value in given.items() if value is not None}
    return replace(QUICK if args.quick else Setting(), device=args.device, **given)


def _groups(args: argparse.Namespace) -> list[str]:
    groups = args.only or [g for g in GROUPS if g != "throughput" or args.device == "cuda"]
    if "evaluation" in groups and importlib.util.find_spec("faster_coco_eval") is None:
        raise ValueError(
            "the group evaluation needs faster-coco-eval; "
            "pip install 'focal_retina[eval]', or name the other groups with --only"
        )
    return groups


def _measure_memory(groups: list[str], setting: Setting, args: argparse.Namespace) -> Peaks:
    """Return the peak memories of all cases, measured apart from the times: see ``memory``."""
    peaks: Peaks = {}
    with freed_memory_given_back():
        for case in itertools.chain(*(_cases(group, setting, args.quick) for group in groups)):
            print(f"memory of {case.group}, {case.name}", flush=True)
            peaks[case.group, case.name] = peak_memories(case, torch.device(args.device))
    return peaks


def _cases(group: str, setting: Setting, quick: bool) -> Iterator[Case]:
    """Yield all cases of a group, also those of sweeps."""
    if group == "scaling":
        return itertools.chain.from_iterable(sweep.cases for sweep in sweeps(setting, quick))
    return CASES[group](setting) if group in CASES else iter(())


def _measure_group(group: str, report: Report, peaks: Peaks, args: argparse.Namespace) -> None:
    """Time a group and add its results to the report."""
    if group == "share":
        print("share of a training step outside convolutions", flush=True)
        report.shares = convolution_shares(report.setting)
    elif group == "scaling":
        rounds = min(args.rounds, 3)  # to show a trend is less than to tell a ratio
        for sweep in sweeps(report.setting, args.quick):
            results = [_measure(case, peaks, args, rounds) for case in sweep.cases]
            report.sweeps.append(SweepResult(sweep.name, sweep.axis, sweep.values, results))
    else:
        cases = _cases(group, report.setting, args.quick)
        report.cases += [_measure(case, peaks, args, args.rounds) for case in cases]


def _measure(case: Case, peaks: Peaks, args: argparse.Namespace, rounds: int) -> CaseResult:
    """Time a case and print a line about it."""
    result = measure(
        case,
        torch.device(args.device),
        peaks[case.group, case.name],
        rounds=rounds,
        min_seconds=0.0 if args.quick else 1.0,
    )
    times = [f"{name} {m.seconds * 1e3:.1f} ms" for name, m in result.measurements.items()]
    print(f"{case.group}, {case.name}: {', '.join(times)}", flush=True)
    return result


def _write(report: Report, folder: Path) -> None:
    (folder / "benchmark.json").write_text(json.dumps(report.as_dict(), indent=1) + "\n")
    (folder / "benchmark.md").write_text(markdown(report))
    if report.sweeps:
        plot_sweeps(report.sweeps, folder / "scaling.png")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide warnings, which are about the made-up objects and others' deprecated calls."""
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
