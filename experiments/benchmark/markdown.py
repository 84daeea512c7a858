"""A benchmark's report as Markdown."""

from collections.abc import Iterator

from tabulate import tabulate

from experiments.benchmark.measuring import CaseResult, Measurement
from experiments.benchmark.report import Report
from experiments.benchmark.scaling import SweepResult
from experiments.benchmark.shares import Share
from experiments.benchmark.targets import CONDITIONS, TARGETS, Target

MISSING = "-"


def markdown(report: Report) -> str:
    """Return the tables of a report: machine, targets, cases, shares and sweeps."""
    return "\n\n".join(_blocks(report)) + "\n"


def _blocks(report: Report) -> Iterator[str]:
    setting = report.setting
    yield "# Benchmark"
    yield (
        "Ratios are the result; milliseconds belong to the machine. The contestants of a case ran "
        f"in turns in one process. Times are medians of at least {report.rounds} rounds; memory "
        "is the peak above what was in use before the run."
    )
    what = {
        "images": f"{setting.height} x {setting.width} pixels",
        "model": f"ResNet-{setting.depth} FPN, {setting.num_classes} classes",
    }
    yield _table((report.machine | what).items(), ["", ""])
    measured = [(target, report.measured(target)) for target in TARGETS]
    rows = [_target_row(target, value) for target, value in measured if value is not None]
    if rows:
        yield "## Targets"
        yield f"Set for {CONDITIONS}."
        headers = ["case", "contestant", "against", "quantity", "measured", "target", "reached"]
        yield _table(rows, headers)
    for case in report.cases:
        yield f"## {case.group.capitalize()}: {case.name}"
        yield from _case_blocks(case)
    if report.shares:
        yield "## Share of a training step outside convolutions"
        yield "One image, fp32, under PyTorch's profiler; operators by their self time."
        yield from (_share_table(*item) for item in report.shares.items())
    if report.sweeps:
        yield "## Scaling"
        yield "Medians of three rounds, at most."
        yield "![time and memory over objects, image side and classes](scaling.png)"
    for sweep in report.sweeps:
        yield f"### Scaling of {sweep.name}"
        yield _sweep_table(sweep)


def _target_row(target: Target, measured: float) -> list[str]:
    bound = "at least" if target.quantity == "speedup" else "at most"
    return [
        f"{target.group}: {target.case}",
        target.ours,
        target.against or MISSING,
        target.quantity,
        f"{measured:.3g}",
        f"{bound} {target.bound:g}",
        "yes" if target.is_reached(measured) else "no",
    ]


def _case_blocks(case: CaseResult) -> Iterator[str]:
    headers = ["contestant", "ms", "lowest", "highest", "speedup", "MiB", "memory ratio"]
    rows = [_case_row(case, name, m) for name, m in case.measurements.items()]
    if case.unit:
        headers.append(f"{case.unit}/s")
        for row, measurement in zip(rows, case.measurements.values(), strict=True):
            row.append(_number(case.amount / measurement.seconds))
    yield _table(rows, headers)
    notes = [f"- {name}: {m.note}" for name, m in case.measurements.items() if m.note]
    if notes:
        yield "\n".join(notes)


def _case_row(case: CaseResult, name: str, measurement: Measurement) -> list[str]:
    times = measurement.seconds, min(measurement.times), max(measurement.times)
    return [
        f"{name} (baseline)" if name == case.baseline else name,
        *(_number(seconds * 1e3) for seconds in times),
        _ratio(case.speedup(name, case.baseline)),
        _number(measurement.peak_mib),
        _ratio(case.memory_ratio(name, case.baseline)),
    ]


def _share_table(name: str, share: Share) -> str:
    rows = [["everything outside convolutions", f"{share.outside_convolutions:.1%}"]]
    rows += [[f"`{operator}`", f"{part:.1%}"] for operator, part in share.largest.items()]
    return _table(rows, [name, f"of {_number(share.seconds * 1e3)} ms"])


def _sweep_table(sweep: SweepResult) -> str:
    names = list(sweep.results[0].measurements)
    rows = [
        [value, *(_sweep_cell(case, name) for name in names)]
        for value, case in zip(sweep.values, sweep.results, strict=True)
    ]
    return _table(rows, [sweep.axis, *names])


def _sweep_cell(case: CaseResult, name: str) -> str:
    measurement = case.measurements.get(name)
    if measurement is None:
        return MISSING
    cell = f"{_number(measurement.seconds * 1e3)} ms, {_number(measurement.peak_mib)} MiB"
    speedup = case.speedup(name, case.baseline)
    return cell if speedup is None or name == case.baseline else f"{cell}, {_ratio(speedup)}"


def _number(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratio(value: float | None) -> str:
    return MISSING if value is None else f"{_number(value)}x"


def _table(rows, headers: list[str]) -> str:
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)
