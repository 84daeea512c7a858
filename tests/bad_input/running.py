"""One bad input: how it is made, run in this process as a user would, and judged."""

import builtins
import contextlib
import importlib
import io
import logging
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from helpers.tiny_jobs import catalogs_restored, remove_log_handlers

from focal_retina.engine import argument_parser, main

LONGEST_SENTENCE = 1200  # characters: no dump of a config
EXPERIMENTS = {
    "benchmark": "experiments.benchmark.__main__",
    "paper_tables": "experiments.paper_tables",
    "plot_analysis": "experiments.plot_analysis",
}


@dataclass(frozen=True)
class Case:
    """What a user gives a tool, and what the tool is to say.

    In ``arguments`` and the text of ``files``, ``{jobs}`` is the folder of the tiny jobs, and
    ``{here}`` an empty one of the case.

    Attributes:
        culprit: what the sentence must name, or several of which one will do, separated by "|";
            None: the input turns out fine, and it works.
        may_work: it may also turn out fine.
        files: content by path in ``{here}``; None makes a folder.
        status: 1 where the tool documents it; else 2, a user's mistake.
    """

    id: str
    tool: str
    arguments: tuple[str, ...]
    culprit: str | None
    files: dict[str, str | bytes | None] = field(default_factory=dict)
    may_work: bool = False
    status: int = 2

    def placed(self, jobs: Path, here: Path) -> "Case":
        """Write the files, and return the case with its folders' names."""

        def fill(text: str | None) -> str | None:
            return text and text.replace("{jobs}", str(jobs)).replace("{here}", str(here))

        for name, content in self.files.items():
            path = here / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.mkdir()
            else:
                path.write_bytes(content if isinstance(content, bytes) else fill(content).encode())
        arguments = tuple(map(fill, self.arguments))
        return replace(self, arguments=arguments, culprit=fill(self.culprit))


# A config in {here} that adds to the tiny job's.
BASE = "_BASE_: {jobs}/tiny.yaml\nOUTPUT_DIR: {here}/out\n"


def training(name: str, culprit: str | None, text: str) -> Case:
    """Train with the tiny job's config and the YAML of ``text``."""
    arguments = ("--config-file", "{here}/a.yaml")
    return Case(name, "train_net", arguments, culprit, {"a.yaml": BASE + text})


def job_on(entry: str, *, train: bool = True, test: bool = False) -> tuple[str, ...]:
    """Return the arguments of a tiny job on a dataset called "one"; without training it evaluates.

    Args:
        entry: what DATASETS.REGISTER holds of the dataset after its name.
    """
    return (
        *("--config-file", "{jobs}/tiny.yaml", *([] if train else ["--eval-only"])),
        *([] if train else ["MODEL.WEIGHTS", "{jobs}/one.pth"]),
        *("OUTPUT_DIR", "{here}/out", "DATASETS.REGISTER", f"[['one', {entry}]]"),
        *("DATASETS.TRAIN", "('one',)" if train else "()"),
        *("DATASETS.TEST", "('one',)" if test else "()"),
        *("SOLVER.IMS_PER_BATCH", "1", "SOLVER.MAX_ITER", "1"),
    )


class Outcome(NamedTuple):
    status: int
    output: str  # on stdout
    errors: str  # on stderr

    @property
    def said(self) -> str:
        return self.output + self.errors


def run_tool(tool: str, arguments: Sequence[str]) -> Outcome:
    """Run a tool to its end, as its command line would."""
    output, errors = io.StringIO(), io.StringIO()
    with (
        _as_a_process_of(tool),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            status = _main(tool)(arguments)
        except SystemExit as end:
            status = end.code
        except BaseException:
            traceback.print_exc()
            status = 1
    return Outcome(status or 0, output.getvalue(), errors.getvalue())


def check(case: Case, outcome: Outcome) -> None:
    """Assert that the outcome is what the case asks for."""
    assert "Traceback" not in outcome.said, outcome.said[-3000:]
    if case.culprit is None or (case.may_work and outcome.status == 0):
        assert outcome.status == 0, outcome.said[-2000:]
        return
    assert outcome.status == case.status, outcome.said[-500:]
    sentence = outcome.errors.strip().rpartition("\n")[2]
    assert any(culprit in sentence for culprit in case.culprit.split("|"))
    assert len(sentence) <= LONGEST_SENTENCE


def _main(tool: str):
    if tool == "train_net":
        return lambda arguments: main(argument_parser().parse_args(arguments))
    return importlib.import_module(EXPERIMENTS.get(tool, f"focal_retina.tools.{tool}")).main


@contextlib.contextmanager
def _as_a_process_of(tool: str):
    """Undo afterwards what a process would take with it."""
    argv, imports = sys.argv, builtins.__import__
    terminate, handlers = signal.getsignal(signal.SIGTERM), logging.root.handlers.copy()
    sys.argv = [f"{tool}.py"]
    try:
        with catalogs_restored():
            yield
    finally:
        sys.argv, builtins.__import__ = argv, imports
        signal.signal(signal.SIGTERM, terminate)
        remove_log_handlers()
        logging.captureWarnings(False)
        logging.root.handlers[:] = handlers
