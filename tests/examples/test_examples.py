"""The examples run as their first lines say, from outside the package."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PROJECT = ROOT / "examples/plug_into_your_project"


def run(*arguments, folder):
    """Run Python elsewhere, with focal_retina importable as if installed."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *(str(a) for a in arguments)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_project_learns_one_square_with_our_parts_in_at_most_60_lines(tmp_path):
    sources = list(PROJECT.glob("*.py"))
    assert sum(len(source.read_text().splitlines()) for source in sources) <= 60
    printed = run(PROJECT / "my_project.py", folder=tmp_path)
    box = [float(x) for x in re.search(r"tensor\(\[\[(.*?)\]\]\)", printed)[1].split(",")]
    assert max(abs(a - b) for a, b in zip(box, [24, 16, 48, 40], strict=True)) < 3
    assert "pred_classes: tensor([1])" in printed


@pytest.mark.slow
def test_the_comparison_measures_recall_and_precision_of_both_first_stages(tmp_path):
    small = ["--iterations", 1, "--seeds", 0, "--images", 14]
    smaller = ["SOLVER.IMS_PER_BATCH", 2, "MODEL.FPN.OUT_CHANNELS", 16]
    script = ROOT / "examples/compare_first_stages.py"
    printed = run(script, *small, "--output", tmp_path, *smaller, folder=tmp_path)
    number = r"(\d+\.\d|nan)"
    for name in ("RPN", "FocalProposalGenerator"):
        assert re.search(rf"\| {name} \| 0 \| {number} \| {number} \|", printed)
