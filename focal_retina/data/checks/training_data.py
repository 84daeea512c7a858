"""The short check of the datasets at the start of a training."""

import itertools
import logging
import shlex
import time
from collections.abc import Sequence

from detectron2.utils import comm

from focal_retina.data.checks.entries import check_entries, count_drops
from focal_retina.data.checks.problems import Problem
from focal_retina.data.checks.registered import table_of_dataset
from focal_retina.data.checks.splits import check_splits
from focal_retina.errors import SharedError

logger = logging.getLogger(__name__)

# Warnings that are shown; the tool lists the others.
_MAX_WARNINGS = 5
# Problems that the line about the drops tells.
_COUNTED = (Problem.CROWD, Problem.IMAGE_EMPTY, Problem.IMAGE_UNKNOWN, Problem.POLYGON_INVALID)
# Problems that do not matter in training.
_OF_EVALUATION = (
    Problem.ANNOTATION_ID_BELOW_1,
    Problem.EVALUATION_KEY_MISSING,
    Problem.ID_NOT_INTEGER,
)


def check_training_data(
    train: Sequence[str],
    test: Sequence[str],
    filter_empty: bool,
    config_file: str,
    opts: Sequence[object],
    resize: tuple[int, int] | None = None,
) -> None:
    """Check the datasets without their pictures; log warnings and what training will not use.

    The main process checks. All processes raise a SharedError if the data has an error; it names
    the command that lists all errors, which ``config_file`` and ``opts`` make up.

    Args:
        train, test: names of registered datasets.
        filter_empty: ``DATALOADER.FILTER_EMPTY_ANNOTATIONS``.
        resize: the smallest size of training, as in ``check_entries``.
    """
    words = ["python", "-m", "focal_retina.tools.check_dataset", "--config-file", config_file]
    command = shlex.join([*words, *map(str, opts)])
    is_main = comm.is_main_process()
    complaint = _check(train, test, filter_empty, command, resize) if is_main else None
    complaint = comm.all_gather(complaint)[0]
    if complaint:
        raise SharedError(complaint)


def _check(
    train: Sequence[str],
    test: Sequence[str],
    filter_empty: bool,
    command: str,
    resize: tuple[int, int] | None,
) -> str | None:
    """Return a sentence about an error; without errors, log warnings and what is dropped."""
    start = time.perf_counter()
    found = {name: table_of_dataset(name) for name in dict.fromkeys([*train, *test])}
    for name in (name for name, table in found.items() if table is None):
        logger.info(f"dataset {name} is no list of records, and is not checked")
    tables = {name: table for name, table in found.items() if table is not None}
    findings = [
        finding
        for name, table in tables.items()
        for finding in check_entries(table, resize if name in train else None)
        if name in test or finding.problem not in _OF_EVALUATION
    ]
    train, test = ([name for name in names if name in tables] for names in (train, test))
    for one, other in itertools.product(train, test):
        findings += check_splits(tables[one], tables[other])
    for finding in findings:
        if finding.problem.is_error:
            return f"{finding}; all that is wrong is listed by: {command}"
    for name in train:
        logger.info(f"{name}: training uses {count_drops(tables[name], filter_empty)}")
    warnings = [finding for finding in findings if finding.problem not in _COUNTED]
    for finding in warnings[:_MAX_WARNINGS]:
        logger.warning(str(finding))
    if warnings:
        left = len(warnings) - _MAX_WARNINGS
        what = f"{left} more kinds of warnings are" if left > 0 else "all of these places are"
        logger.warning(f"{what} listed by: {command}")
    logger.info(f"checked the datasets in {time.perf_counter() - start:.1f} seconds")
    return None
