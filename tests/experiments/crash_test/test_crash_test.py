"""Runs that are killed twenty times end as the unbroken one, bit by bit."""

import os
import re
import subprocess
import sys
from collections import Counter

import pytest
import torch

from experiments.crash_test.comparison import differences

pytestmark = [pytest.mark.slow, pytest.mark.distributed]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """One process and two, without data workers and with two, five kills each."""
    folder = tmp_path_factory.mktemp("crash_test")
    command = [sys.executable, "-m", "experiments.crash_test", "--kills", 5]
    command += ["--processes", 1, 2, "--workers", 0, 2, "--iterations", 25, "--output", folder]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_twenty_kills_change_nothing_and_come_while_checkpoints_are_written_too(killed):
    report = (killed / "crash_test.md").read_text()
    assert re.findall(r"(\d+) kills, \d+ run\(s\), no difference", report) == ["5"] * 4
    assert "## Differences\n\nNone." in report
    activities = Counter(re.findall(r"\| (starting|training|writing|evaluating|between)", report))
    assert activities["writing"] + activities["between"] >= 2
    assert len(activities) >= 3


@pytest.fixture
def twin(killed, tmp_path):
    """Copies of a run, to differ from it."""
    copy = tmp_path / "twin"
    subprocess.run(["cp", "-r", killed / "processes2_unbroken", copy], check=True)
    return killed / "processes2_unbroken", copy


def edit_checkpoint(edit):
    def change(folder):
        content = torch.load(folder / "model_final.pth", weights_only=True)
        edit(content)
        torch.save(content, folder / "model_final.pth")

    return change


def edit_text(name, edit):
    def change(folder):
        (folder / name).write_text(edit((folder / name).read_text()))

    return change


def add_to_the_mean_of_the_normaliser(content):
    (leaf,) = [leaf for path, leaf in content["ranks"][1] if path[-1].endswith("foreground_ema")]
    leaf += 1


def add_a_millionth(match):
    return match[0].replace(match[1], str(float(match[1]) + 1e-6))


LOSS = r'"total_loss": ([\d.]+)'
CHANGES = {
    "a weight": edit_checkpoint(lambda x: x["model"]["head.cls_score.bias"][0].add_(1e-6)),
    "the mean of the normaliser": edit_checkpoint(add_to_the_mean_of_the_normaliser),
    "a metric": edit_text("metrics.json", lambda x: re.sub(LOSS, add_a_millionth, x, count=1)),
    "a lost line of metrics": edit_text("metrics.json", lambda x: x.rstrip().rpartition("\n")[0]),
    "a detection": edit_text(
        "inference/coco_instances_results.json", lambda x: x.replace("1", "2", 1)
    ),
    "a lost checkpoint": lambda folder: next(folder.glob("model_00*.pth")).unlink(),
    "no final checkpoint": lambda folder: (folder / "model_final.pth").unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_difference_is_found(twin, change):
    assert differences(*twin) == []
    change(twin[1])
    assert len(differences(*twin)) == 1
