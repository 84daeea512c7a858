"""The short check of the datasets at the start of training."""

import itertools
import logging
import shlex
import time
from collections.abc import Sequence
from typing import NamedTuple

from detectron2.utils import comm

from focal_retina.data.checks import findings as rules
from focal_retina.data.checks.drops import count_drops
from focal_retina.data.checks.entries import check_entries
from focal_retina.data.checks.findings import Finding
from focal_retina.data.checks.reading import forget_tables
from focal_retina.data.checks.registered import table_of_dataset
from focal_retina.data.checks.splits import check_splits
from focal_retina.data.checks.table import Table
from focal_retina.errors import SharedError

logger = logging.getLogger(__name__)

# Lines of warnings before the rest is left to the tool.
_MAX_WARNINGS = 5
# What the line about the drops tells.
_COUNTED = (rules.CROWD, rules.IMAGE_EMPTY, rules.IMAGE_UNKNOWN, rules.POLYGON_INVALID)
# What training does not mind.
_OF_EVALUATION = (
    rules.ANNOTATION_ID_BELOW_1,
    rules.EVALUATION_KEY_MISSING,
    rules.ID_NOT_INTEGER,
)


class TrainingData(NamedTuple):
    """What a config says about its datasets."""

    register: Sequence[Sequence[str]]  # the declared ones, as ``register_datasets`` takes them
    train: Sequence[str]  # names
    test: Sequence[str]
    filter_empty: bool  # DATALOADER.FILTER_EMPTY_ANNOTATIONS


def check_training_data(data: TrainingData, config_file: str, opts: Sequence[str]) -> None:
    """Check what the datasets say, without their pictures; log warnings and what is dropped.

    The main process checks, and all hear of an error.

    Args:
        data: names of registered datasets.
        config_file, opts: of the command line, for the command that lists all.

    Raises:
        SharedError: the worst error, and the command that lists all.
    """
    complaint = _check(data, config_file, opts) if comm.is_main_process() else None
    complaint = comm.all_gather(complaint)[0]
    if complaint:
        raise SharedError(complaint)


def _check(data: TrainingData, config_file: str, opts: Sequence[str]) -> str | None:
    """Return what is wrong in one sentence; else log warnings and what is dropped."""
    start = time.perf_counter()
    tables = _tables([*data.train, *data.test])
    train, test = ([name for name in x if name in tables] for x in (data.train, data.test))
    findings = _findings(tables, train, test)
    command = ["python", "-m", "focal_retina.tools.check_dataset"]
    command = shlex.join([*command, "--config-file", config_file, *map(str, opts)])
    errors = [finding for finding in findings if finding.rule.is_error]
    if errors:
        return f"{errors[0]}; all that is wrong is listed by: {command}"
    for name in train:
        logger.info(f"{name}: training uses {count_drops(tables[name], data.filter_empty)}")
    _warn([finding for finding in findings if finding.rule not in _COUNTED], command)
    logger.info(f"checked the datasets in {time.perf_counter() - start:.1f} seconds")
    return None


def _tables(names: Sequence[str]) -> dict[str, Table]:
    """Return the tables by name, but of datasets that have none."""
    tables = {name: table_of_dataset(name) for name in dict.fromkeys(names)}
    forget_tables()
    for name in (name for name, table in tables.items() if table is None):
        logger.info(f"dataset {name} is no list of records, and is not checked")
    return {name: table for name, table in tables.items() if table is not None}


def _findings(tables: dict[str, Table], train: Sequence[str], test: Sequence[str]) -> list[Finding]:
    findings = [
        finding
        for name in dict.fromkeys([*train, *test])
        for finding in check_entries(tables[name])
        if name in test or finding.rule not in _OF_EVALUATION
    ]
    for one, other in itertools.product(train, test):
        findings += check_splits(tables[one], tables[other])
    return findings


def _warn(findings: Sequence[Finding], command: str) -> None:
    for finding in findings[:_MAX_WARNINGS]:
        logger.warning(str(finding))
    if findings:
        left = len(findings) - _MAX_WARNINGS
        what = f"{left} more kinds of warnings are" if left > 0 else "all of these places are"
        logger.warning(f"{what} listed by: {command}")
