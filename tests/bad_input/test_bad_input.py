"""Bad inputs end in one sentence that names the culprit, in no traceback and in a status not 0.

The suite tries a share of the tables. All of them, in ten minutes on two cores:

    python -m pytest tests/bad_input --all-bad-input
"""

import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from bad_input import (
    command_lines,
    config_files,
    config_values,
    datasets,
    images,
    lazy_configs,
    weights,
)
from bad_input.running import check, run_tool
from helpers.tiny_jobs import ROOT, catalogs_restored, write_jobs

pytestmark = pytest.mark.slow

# Of each table every n-th case belongs to the suite: those of configs take 0.05 s, others seconds.
EVERY = {
    config_values: 4,
    config_files: 4,
    lazy_configs: 8,
    command_lines: 8,
    weights: 12,
    images: 12,
    datasets: 16,
}


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        takes_all = metafunc.config.getoption("--all-bad-input")
        cases = [
            case
            for table, every in EVERY.items()
            for case in table.cases()
            if takes_all or zlib.crc32(case.id.encode()) % every == 0
        ]
        metafunc.parametrize("case", cases, ids=[case.id for case in cases])


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """The tiny jobs, weights that fit them, and a picture."""
    folder = write_jobs(tmp_path_factory.mktemp("jobs"))
    with catalogs_restored():
        weights.prepare(folder)
    cv2.imwrite(str(folder / "a.jpg"), np.zeros((64, 64, 3), np.uint8))
    return folder


def test_a_bad_input_ends_in_a_sentence_and_a_fine_one_works(case, jobs, tmp_path):
    case = case.placed(jobs, tmp_path)
    check(case, run_tool(case.tool, case.arguments))
    assert not weights.RAN.exists()


def test_every_key_of_the_nodes_has_a_case():
    tried = {case.id for case in config_values.cases()}
    assert {f"{key}-misspelt" for key in config_values.defaults()} <= tried
    assert set(config_values.ABSURD) <= set(config_values.defaults())


def test_a_real_process_ends_the_same_way(tmp_path):
    (tmp_path / "a.yaml").write_text("SOLVER: {MAX_ITER: 0}\n")
    command = [sys.executable, "train_net.py", "--config-file", str(tmp_path / "a.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "train_net.py: error: SOLVER.MAX_ITER is 0; it must be a whole number of at least 1 and of "
        "at most 2147483647"
    )
    assert "Traceback" not in done.stdout + done.stderr
