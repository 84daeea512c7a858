"""The command runs at tiny sizes and writes a complete report."""

import json

import pytest
import torch

from experiments.benchmark.__main__ import main
from experiments.benchmark.cases import CASES
from experiments.benchmark.peak_memory import peak_memory

TELLS_PEAK = peak_memory(lambda: None, torch.device("cpu")) is not None


@pytest.mark.slow
def test_the_json_and_the_markdown_have_every_group_with_times_and_memory(tmp_path):
    arguments = ["--quick", "--device", "cpu", "--only", *CASES, "--output", str(tmp_path)]
    assert main(arguments) == 0
    content = json.loads((tmp_path / "benchmark.json").read_text())
    text = (tmp_path / "benchmark.md").read_text()
    assert {case["group"] for case in content["cases"]} == set(CASES)
    assert len([case for case in content["cases"] if case["axis"]]) == 5
    for case in content["cases"]:
        title = f"## {case['group'].capitalize()}: {case['name']}"
        assert (f"### Scaling of {case['name']}" if case["axis"] else title) in text
        for name, measurement in case["measurements"].items():
            assert all(seconds > 0 for seconds in measurement["times"]), name
            has_memory = TELLS_PEAK and not name.startswith("limit: convolution")
            assert (measurement["peak_mib"] is not None) == has_memory, name
    assert {"torch", "torchvision", "detectron2", "CPU"} <= content["machine"].keys()
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_without_hotcoco_the_group_evaluation_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["--only", "evaluation", "--device", "cpu"]) == 2
    assert "pip install 'focal_retina[eval]'" in capsys.readouterr().err
