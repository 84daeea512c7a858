"""Write findings as text, JSON or CSV."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from focal_retina.data.checks.problems import Finding
from focal_retina.errors import UserError

_COLUMNS = "severity finding dataset path value note annotation_id image_id file_name".split()


def summary(findings: Sequence[Finding], examples: int) -> str:
    """Return a text of findings, each with its count and its first places."""
    lines = [] if findings else ["  nothing is wrong"]
    for problem, _, places in findings:
        head = f"  {problem.severity:7} {len(places):7,}  {problem.name}: {problem.description}"
        lines += [head, *(f"{'':19}{line}" for line in (problem.consequence, *places[:examples]))]
    return "\n".join(lines)


def check_ending(path: str) -> None:
    """Raise a UserError unless :func:`write_all` can write such a file."""
    if Path(path).suffix not in (".json", ".csv"):
        raise UserError(f"{path} must end in .json or .csv")


def write_all(path: str, findings: Iterable[Finding]) -> None:
    """Write every place of every finding to a .csv, or to a .json as a list of objects."""
    rows = [_row(finding, *place) for finding in findings for place in finding.places]
    with open(path, "w", newline="") as file:
        if path.endswith(".json"):
            json.dump(rows, file, indent=1)
        else:
            writer = csv.DictWriter(file, _COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


def _row(finding: Finding, path: str, value: object, *others: object) -> dict:
    # As text: NaN and infinity are no JSON.
    shown = None if value is None else str(value)
    problem = finding.problem
    row = problem.severity, problem.name, finding.source, path, shown, *others
    return dict(zip(_COLUMNS, row, strict=True))
