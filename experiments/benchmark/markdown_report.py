"""A benchmark's report as Markdown."""

from collections.abc import Iterator

from experiments.benchmark.results import CaseResult, Report
from experiments.reports import markdown_table

MISSING = "-"


def markdown_report(report: Report) -> str:
    """Return the tables of a report: machine, cases and series."""
    return "\n\n".join(_blocks(report)) + "\n"


def _blocks(report: Report) -> Iterator[str]:
    setting = report.setting
    yield "# Benchmark"
    yield (
        "Ratios are the result; milliseconds belong to the machine. The implementations of a case "
        f"ran in turns in one process. Times are medians of at least {report.rounds} rounds; "
        "memory is the peak above what was in use before the run."
    )
    sizes = {
        "images": f"{setting.height} x {setting.width} pixels",
        "model": f"ResNet-{setting.depth} FPN, {setting.num_classes} classes",
    }
    yield markdown_table((report.machine | sizes).items(), ["", ""])
    for case in report.cases:
        if not case.axis:
            yield f"## {case.group.capitalize()}: {case.name}"
            yield from _case_blocks(case)
    if report.series():
        yield "## Scaling"
        yield "Medians of three rounds, at most."
        yield "![time and memory over objects, image side and classes](scaling.png)"
    for series in report.series():
        yield f"### Scaling of {series[0].name}"
        yield _series_table(series)


def _case_blocks(case: CaseResult) -> Iterator[str]:
    headers = ["implementation", "ms", "lowest", "highest", "speedup", "MiB", "memory ratio"]
    yield markdown_table([_case_row(case, name) for name in case.measurements], headers)
    notes = [f"- {name}: {m.note}" for name, m in case.measurements.items() if m.note]
    if notes:
        yield "\n".join(notes)


def _case_row(case: CaseResult, name: str) -> list[str]:
    measured = case.measurements[name]
    times = measured.seconds, min(measured.times), max(measured.times)
    return [
        f"{name} (baseline)" if name == case.baseline else name,
        *(_number(seconds * 1e3) for seconds in times),
        _ratio(case.speedup(name)),
        _number(measured.peak_mib),
        _ratio(case.memory_ratio(name)),
    ]


def _series_table(series: list[CaseResult]) -> str:
    names = list(series[0].measurements)
    rows = [[case.value, *(_series_cell(case, name) for name in names)] for case in series]
    return markdown_table(rows, [series[0].axis, *names])


def _series_cell(case: CaseResult, name: str) -> str:
    if name not in case.measurements:
        return MISSING
    measured, speedup = case.measurements[name], case.speedup(name)
    cell = f"{_number(measured.seconds * 1e3)} ms, {_number(measured.peak_mib)} MiB"
    return cell if speedup is None or name == case.baseline else f"{cell}, {_ratio(speedup)}"


def _number(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratio(value: float | None) -> str:
    return MISSING if value is None else f"{_number(value)}x"
