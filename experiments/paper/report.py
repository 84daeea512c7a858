"""The report on all jobs: Markdown, CSV and pictures."""

import csv
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.paper.measured import MeasuredRow, load_measured, rank_correlation
from experiments.paper.report_plots import draw_speed, draw_table
from experiments.paper.results import write_result
from experiments.paper.speed import milliseconds_per_image
from experiments.reports import markdown_table
from focal_retina.files import write_atomically

SPEED_TABLE = "1e"
COMMANDS_FILE = "commands.txt"


def write_report(output: Path) -> Path:
    """Write report.md, report.csv and PNGs into the folder of the jobs; return report.md."""
    rows = load_measured(output)
    with open(output / "report.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(_csv_lines(rows))
    for table, of_table in _by_table(rows):
        if any(r.values("AP") for r in of_table):
            draw_table(of_table, output / f"table_{table}.png")
    if any(r.values("ms") for r in rows):
        draw_speed([r for r in rows if "ms" in r.row.published], output / "figure_2.png")
    path = output / "report.md"
    file = output / COMMANDS_FILE
    commands = file.read_text().strip() if file.exists() else ""
    text = "\n\n".join(_blocks(rows, commands)) + "\n"
    write_atomically(str(path), text.encode())
    return path


def measure_speeds(output: Path) -> None:
    """Measure and store the milliseconds per image of finished jobs of Table 1e that lack them."""
    for measured in load_measured(output):
        for result in measured.results:
            folder = output / measured.row.id / f"seed{result['seed']}"
            weights = folder / "model_final.pth"
            lacks_speed = result["status"] == "done" and "ms" not in result and weights.exists()
            if measured.row.table == SPEED_TABLE and lacks_speed:
                result["ms"] = milliseconds_per_image(folder / "job.yaml", weights)
                write_result(folder, result)


def _by_table(rows: Sequence[MeasuredRow]) -> Iterator[tuple[str, list[MeasuredRow]]]:
    for table, of_table in itertools.groupby(rows, key=lambda r: r.row.table):
        yield table, list(of_table)


def _csv_lines(rows: Sequence[MeasuredRow]) -> Iterator[list]:
    yield ["table", "row", "metric", "published", "mean", "spread", "seeds", "notes"]
    for r in rows:
        for metric, published in r.row.published.items():
            numbers = [r.mean(metric), r.spread(metric), len(r.values(metric))]
            yield [r.row.table, r.row.name, metric, published, *numbers, "; ".join(r.notes)]


def _blocks(rows: Sequence[MeasuredRow], commands: str) -> Iterator[str]:
    yield "# The paper's tables, measured"
    yield (
        "Each cell has the published value, then the measured one: the mean over seeds, ± their "
        "standard deviation where there are two or more. AP is in percent."
    )
    results = [result for r in rows for result in r.results]
    if commands:
        yield f"```\n{commands}\n```"
    if results:
        yield _origin(results)
    for table, of_table in _by_table(rows):
        yield f"## Table {table}: {of_table[0].row.title}"
        yield from _table_blocks(table, of_table)


def _origin(results: Sequence[dict]) -> str:
    """Return commit, versions and hardware, each with all its values among the results."""
    origins = [{"commit": result["commit"], **result["machine"]} for result in results]
    names = dict.fromkeys(name for origin in origins for name in origin)
    values = {n: dict.fromkeys(o[n] for o in origins if n in o) for n in names}
    return markdown_table([[n, ", ".join(v)] for n, v in values.items()], ["", ""])


def _table_blocks(table: str, rows: Sequence[MeasuredRow]) -> Iterator[str]:
    metrics = list(rows[0].row.published)
    lines = []
    for r in rows:
        cells = [_cell(r, metric) for metric in metrics]
        lines.append([r.row.name, *cells, str(len(r.values("AP"))), "; ".join(r.notes)])
    yield markdown_table(lines, ["row", *metrics, "seeds", ""])
    if rows[0].row.dataset.endswith("test-dev"):
        yield (
            "Published on COCO test-dev, whose annotations only the COCO server has: a run on it "
            "leaves an archive to submit. Numbers measured here are of another split."
        )
    if correlation := rank_correlation(rows):
        yield (
            f"Spearman's rank correlation with the published AP: {correlation[0]:.2f} "
            f"({correlation[1]} of {len(rows)} rows)."
        )
    if any(r.values("AP") for r in rows):
        yield f"![Table {table}](table_{table}.png)"
    if any(r.values("ms") for r in rows):
        yield "![Figure 2: speed against AP](figure_2.png)"


def _cell(r: MeasuredRow, metric: str) -> str:
    mean, spread = r.mean(metric), r.spread(metric)
    published = f"{r.row.published[metric]:.{0 if metric == 'ms' else 1}f}"
    if mean is None:
        return f"{published} / -"
    return f"{published} / {mean:.1f}" + ("" if spread is None else f" ± {spread:.1f}")
