"""Check datasets before training: boxes, classes, ids, picture files, leaks between the splits.

    python -m focal_retina.tools.check_dataset --config-file X.yaml DATASETS.TRAIN "('mine',)"
    python -m focal_retina.tools.check_dataset --json train.json --images train \\
        --json val.json --images val --all findings.csv

A finding is an error, which stops training or evaluation or makes them wrong, or a warning. It says
what they do about it. The exit status is 1 if there are errors and 0 otherwise; it is 2 after a
mistake on the command line. Of each picture, the header and the end of the file are read: this
finds pictures that are missing, cut off or of another size. With --decode, all of it is read, as in
training.
"""

import argparse
import csv
import itertools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from focal_retina.data.checks.entries import check_entries, count_drops
from focal_retina.data.checks.pictures import check_pictures, inspect_pictures
from focal_retina.data.checks.problems import Finding, Place
from focal_retina.data.checks.reading import read_table
from focal_retina.data.checks.registered import table_of_dataset
from focal_retina.data.checks.splits import check_splits
from focal_retina.data.checks.table import Table
from focal_retina.data.register import register_datasets
from focal_retina.errors import UserError, reports_errors
from focal_retina.files import output, refuse_inputs
from focal_retina.settings.load import load_settings
from focal_retina.settings.machine import check_datasets
from focal_retina.terminal import printable
from focal_retina.tools.command_line import (
    add_config_arguments,
    count,
    files_read,
    tool_parser,
)


class Task(NamedTuple):
    """What to check."""

    tables: dict[str, Table]
    pairs: list[tuple[str, str]]  # keys of tables to compare, training and test
    filter_empty: bool  # DATALOADER.FILTER_EMPTY_ANNOTATIONS


@reports_errors("check_dataset")
def main(argv: list[str] | None = None) -> int:
    """Check; return 0, 1 if the data has errors, or 2 after a sentence on the command line."""
    args = parse_arguments(argv)
    start = time.perf_counter()
    if args.all:
        check_report_file(args.all)
    task = configured_task(args) if args.config_file else json_task(args)
    if args.all:
        refuse_inputs(args.all, [*args.json, *files_read(args.config_file)])
    findings = check(task, args)
    if args.all:
        write_report(args.all, findings)
    errors = sum(finding.problem.is_error for finding in findings)
    seconds = time.perf_counter() - start
    print(f"{errors} kinds of errors, {len(findings) - errors} of warnings; {seconds:.1f} seconds")
    return 1 if errors else 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = tool_parser("check_dataset", __doc__)
    add_config_arguments(parser, help="checks its training and test datasets")
    parser.add_argument("--json", action="append", default=[], help="COCO json, one or more")
    parser.add_argument("--images", action="append", default=[], help="picture folder of each")
    parser.add_argument("--json-only", action="store_true", help="leave the picture files alone")
    parser.add_argument("--decode", action="store_true", help="read all of each picture")
    parser.add_argument("--threads", type=count(), default=8, help="that read pictures (8)")
    parser.add_argument("--examples", type=count(0), default=3, help="shown of each finding (3)")
    parser.add_argument("--all", metavar="FILE", help="a .json or .csv for everything found")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys")
    return parser.parse_args(argv)


def json_task(args: argparse.Namespace) -> Task:
    """Return the tables of --json; each is compared with each."""
    if not args.json:
        raise UserError("name a --config-file, or the json files with --json")
    if args.opts:
        raise UserError(f"{args.opts[0]} is for a config, but there is no --config-file")
    if len(args.images) not in (0, len(args.json)):
        raise UserError("--images names a folder for each --json, or is left out")
    folders = args.images or [None] * len(args.json)
    tables = {j: read_table(j, f) for j, f in zip(args.json, folders, strict=True)}
    return Task(tables, list(itertools.combinations(tables, 2)), True)


def configured_task(args: argparse.Namespace) -> Task:
    """Return the tables of a config's datasets; training sets are compared with test sets."""
    if args.json or args.images:
        raise UserError("--config-file names the datasets: leave out --json and --images")
    data = load_settings(args.config_file, args.opts, trust_config=args.trust_config, trains=False)
    train, test = data.train_datasets, data.test_datasets
    tables = {name: _table(name, data.register) for name in dict.fromkeys([*train, *test])}
    return Task(tables, list(itertools.product(train, test)), data.filter_empty)


def _table(name: str, entries: Sequence[Sequence[str]]) -> Table:
    """Return the table of a dataset; if the config declares a json, of that json."""
    for entry in entries:
        match entry:
            case [first, str(json_file), str(image_root)] if first == name:
                return read_table(json_file, image_root, f"{name} ({json_file})")
            case [first, *_] if first == name:
                register_datasets([entry])
    check_datasets([name], "DATASETS.REGISTER")
    table = table_of_dataset(name)
    if table is None:
        raise UserError(f"dataset {name} is no list of records; only those can be checked")
    return table


def check(task: Task, args: argparse.Namespace) -> list[Finding]:
    """Check the tables and the pairs of them; print the findings and return them."""
    pictures, findings = {}, []
    for name, table in task.tables.items():
        found = check_entries(table)
        if table.image_root is not None and not args.json_only:
            pictures[name] = inspect_pictures(table, args.decode, args.threads)
            found += check_pictures(table, pictures[name])
        drops = count_drops(table, task.filter_empty)
        said = summary(found, args.examples)
        print(printable(f"{table.source}\n  training would use {drops}\n{said}"))
        findings += found
    for one, other in task.pairs:
        files = pictures.get(one, ()), pictures.get(other, ())
        found = check_splits(task.tables[one], task.tables[other], *files)
        if found:
            print(printable(f"{one} and {other}\n{summary(found, args.examples)}"))
        findings += found
    return findings


def summary(findings: Sequence[Finding], examples: int) -> str:
    """Return a text of findings, each with its count and its first places."""
    lines = [] if findings else ["  nothing is wrong"]
    for problem, _, places in findings:
        head = f"  {problem.severity:7} {len(places):7,}  {problem.label}: {problem.description}"
        lines += [head, *(f"{'':19}{line}" for line in (problem.consequence, *places[:examples]))]
    return "\n".join(lines)


def check_report_file(path: str) -> None:
    """Raise a UserError now, not after all has been checked."""
    if Path(path).suffix not in (".json", ".csv"):
        raise UserError(f"{path} must end in .json or .csv")
    if not Path(path).parent.is_dir():
        raise UserError(f"--all {path}: there is no folder {Path(path).parent}")


def write_report(path: str, findings: Sequence[Finding]) -> None:
    """Write every place of every finding to a .csv, or to a .json as a list of objects."""
    rows = [
        {
            "severity": finding.problem.severity,
            "finding": finding.problem.label,
            "dataset": finding.source,
            **place._asdict(),
            # As text: NaN and infinity are no JSON.
            "value": None if place.value is None else str(place.value),
        }
        for finding in findings
        for place in finding.places
    ]
    columns = ["severity", "finding", "dataset", *Place._fields]
    utf8 = {"encoding": "utf-8", "errors": "backslashreplace"}
    with output(path) as unfinished, open(unfinished, "w", newline="", **utf8) as file:
        if path.endswith(".json"):
            json.dump(rows, file, indent=1)
        else:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
