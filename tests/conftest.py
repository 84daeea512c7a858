"""Fixtures of the whole suite."""

import logging
import re
import sys

import pytest
from detectron2.utils.events import EventStorage
from helpers.tiny_jobs import catalogs_restored, run_here, write_jobs
from hypothesis import settings


def pytest_addoption(parser):
    parser.addoption(
        "--all-bad-input", action="store_true", help="try all of tests/bad_input, not a share"
    )


def pytest_configure(config):
    takes_all = config.getoption("--all-bad-input")
    # Few and always the same examples in the suite; as many and as other ones as can be to search.
    settings.register_profile("suite", max_examples=30, derandomize=True, deadline=None)
    settings.register_profile("search", max_examples=1000, deadline=None)
    settings.load_profile("search" if takes_all else "suite")


@pytest.fixture
def event_storage():
    with EventStorage(0) as storage:
        yield storage


@pytest.fixture(autouse=True)
def forget_datasets():
    """Let every test give its datasets the names that others have used."""
    with catalogs_restored():
        yield


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """A folder with ``tiny.yaml``, ``tiny.py`` and their images."""
    return write_jobs(tmp_path_factory.mktemp("jobs"))


@pytest.fixture(autouse=True)
def propagate_logs():
    """Let caplog see Detectron2's loggers, whose set-up turns propagation off."""
    yield
    for name in ("detectron2", "fvcore", "focal_retina"):
        logging.getLogger(name).propagate = True


@pytest.fixture
def sentence_of(capsys, monkeypatch):
    """Return a function that gives the one line with which a run ends in status 2."""
    monkeypatch.setattr(sys, "argv", ["/some/where/train_net.py"])

    def run_to_the_end(*arguments):
        with pytest.raises(SystemExit) as stopped:
            run_here(*arguments)
        assert stopped.value.code == 2
        said = capsys.readouterr().err
        (line,) = re.findall("^train_net.py: error: .*$", said, re.MULTILINE)
        assert "Traceback" not in said
        return line

    return run_to_the_end
