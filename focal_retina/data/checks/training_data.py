"""The short check of the datasets at the start of a training."""

import itertools
import logging
import shlex
import time
from collections.abc import Sequence
from typing import NamedTuple

from detectron2.utils import comm

from focal_retina.data.checks import problems
from focal_retina.data.checks.drops import count_drops
from focal_retina.data.checks.entries import check_entries
from focal_retina.data.checks.problems import Finding
from focal_retina.data.checks.registered import table_of_dataset
from focal_retina.data.checks.splits import check_splits
from focal_retina.data.checks.table import Table
from focal_retina.errors import SharedError

logger = logging.getLogger(__name__)

# Warnings that are shown; the tool lists the others.
_MAX_WARNINGS = 5
# Problems that the line about the drops tells.
_COUNTED = (problems.CROWD, problems.IMAGE_EMPTY, problems.IMAGE_UNKNOWN, problems.POLYGON_INVALID)
# Problems that do not matter in training.
_OF_EVALUATION = (
    problems.ANNOTATION_ID_BELOW_1,
    problems.EVALUATION_KEY_MISSING,
    problems.ID_NOT_INTEGER,
)


class TrainingData(NamedTuple):
    """What a config says about its datasets."""

    register: Sequence[Sequence[str]]  # see ``register_datasets``
    train: Sequence[str]  # names
    test: Sequence[str]
    filter_empty: bool  # DATALOADER.FILTER_EMPTY_ANNOTATIONS


def check_training_data(data: TrainingData, config_file: str, opts: Sequence[object]) -> None:
    """Check the datasets without their pictures; log warnings and what training will not use.

    The main process checks, and all processes raise its error.

    Args:
        data: names of registered datasets.
        config_file, opts: from the command line.

    Raises:
        SharedError: an error in the data; the sentence has the command that lists all errors.
    """
    complaint = _check(data, config_file, opts) if comm.is_main_process() else None
    complaint = comm.all_gather(complaint)[0]
    if complaint:
        raise SharedError(complaint)


def _check(data: TrainingData, config_file: str, opts: Sequence[object]) -> str | None:
    """Return a sentence about an error; without errors, log warnings and what is dropped."""
    start = time.perf_counter()
    tables = _tables([*data.train, *data.test])
    train, test = ([name for name in x if name in tables] for x in (data.train, data.test))
    findings = _findings(tables, train, test)
    command = ["python", "-m", "focal_retina.tools.check_dataset"]
    command = shlex.join([*command, "--config-file", config_file, *map(str, opts)])
    errors = [finding for finding in findings if finding.problem.is_error]
    if errors:
        return f"{errors[0]}; all that is wrong is listed by: {command}"
    for name in train:
        logger.info(f"{name}: training uses {count_drops(tables[name], data.filter_empty)}")
    _warn([finding for finding in findings if finding.problem not in _COUNTED], command)
    logger.info(f"checked the datasets in {time.perf_counter() - start:.1f} seconds")
    return None


def _tables(names: Sequence[str]) -> dict[str, Table]:
    """Return the tables by name; log datasets that have none."""
    tables = {name: table_of_dataset(name) for name in dict.fromkeys(names)}
    for name in (name for name, table in tables.items() if table is None):
        logger.info(f"dataset {name} is no list of records, and is not checked")
    return {name: table for name, table in tables.items() if table is not None}


def _findings(tables: dict[str, Table], train: Sequence[str], test: Sequence[str]) -> list[Finding]:
    findings = [
        finding
        for name in dict.fromkeys([*train, *test])
        for finding in check_entries(tables[name])
        if name in test or finding.problem not in _OF_EVALUATION
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
