"""Runs that are killed twenty times end as the unbroken one, bit by bit."""

import json
import os
import re
import subprocess
import sys
from collections import Counter

import pytest
import torch

from experiments.crash_test.comparison import differences

pytestmark = [pytest.mark.slow, pytest.mark.distributed]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """One process and two, without data workers and with two, five kills each."""
    folder = tmp_path_factory.mktemp("crash_test")
    command = [sys.executable, "-m", "experiments.crash_test", "--kills", 5]
    command += ["--processes", 1, 2, "--workers", 0, 2, "--iterations", 25, "--output", folder]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_twenty_kills_change_nothing(killed):
    report = (killed / "crash_test.md").read_text()
    assert re.findall(r"(\d+) kills, \d+ run\(s\), no difference", report) == ["5"] * 4
    assert "## Differences\n\nNone." in report


def test_kills_come_while_checkpoints_are_written_too(killed):
    report = (killed / "crash_test.md").read_text()
    activities = Counter(re.findall(r"\| (starting|training|writing|evaluating|between)", report))
    assert activities["writing"] + activities["between"] >= 2
    assert len(activities) >= 3


@pytest.fixture
def twin(killed, tmp_path):
    """Copies of a run, to differ from it."""
    copy = tmp_path / "twin"
    subprocess.run(["cp", "-r", killed / "processes2_unbroken", copy], check=True)
    return killed / "processes2_unbroken", copy


def change_a_weight(folder):
    content = torch.load(folder / "model_final.pth", weights_only=True)
    content["model"]["head.cls_score.bias"][0] += 1e-6
    torch.save(content, folder / "model_final.pth")


def change_the_mean_of_the_normaliser(folder):
    content = torch.load(folder / "model_final.pth", weights_only=True)
    (leaf,) = [leaf for path, leaf in content["ranks"][1] if path[-1].endswith("foreground_ema")]
    leaf += 1
    torch.save(content, folder / "model_final.pth")


def change_a_metric(folder):
    path = folder / "metrics.json"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["total_loss"] += 1e-6
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def lose_a_line_of_metrics(folder):
    path = folder / "metrics.json"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def change_a_detection(folder):
    path = folder / "inference/coco_instances_results.json"
    path.write_text(path.read_text().replace("1", "2", 1))


def lose_a_checkpoint(folder):
    next(folder.glob("model_00*.pth")).unlink()


def lose_the_final_checkpoint(folder):
    (folder / "model_final.pth").unlink()


@pytest.mark.parametrize(
    "change",
    [
        change_a_weight,
        change_the_mean_of_the_normaliser,
        change_a_metric,
        lose_a_line_of_metrics,
        change_a_detection,
        lose_a_checkpoint,
        lose_the_final_checkpoint,
    ],
)
def test_any_difference_is_found(twin, change):
    assert differences(*twin) == []
    change(twin[1])
    assert len(differences(*twin)) == 1
