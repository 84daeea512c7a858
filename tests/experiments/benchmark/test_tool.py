"""The command runs at tiny sizes and writes a complete report."""

import json

import pytest
import torch

from experiments.benchmark.__main__ import GROUPS, main
from experiments.benchmark.memory import peak_memory

TELLS_PEAK = peak_memory(lambda: None, torch.device("cpu")) is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    assert main(["--quick", "--device", "cpu", "--only", *GROUPS, "--output", str(folder)]) == 0
    return folder


def test_every_group_is_in_the_json_with_times_and_memory(folder):
    content = json.loads((folder / "benchmark.json").read_text())
    assert {case["group"] for case in content["cases"]} == set(GROUPS) - {"share", "scaling"}
    sweeps = [sweep["results"] for sweep in content["sweeps"]]
    assert [len(results) for results in sweeps] == [2, 1, 2]
    for case in sum(sweeps, content["cases"]):
        for name, measurement in case["measurements"].items():
            assert all(seconds > 0 for seconds in measurement["times"]), name
            has_memory = TELLS_PEAK and not name.startswith("limit: convolution")
            assert (measurement["peak_mib"] is not None) == has_memory, name
    assert {"torch", "torchvision", "detectron2", "CPU"} <= content["machine"].keys()
    assert all(0 < share["outside_convolutions"] < 1 for share in content["shares"].values())


def test_every_target_is_measured(folder):
    content = json.loads((folder / "benchmark.json").read_text())
    unmeasured = [target for target in content["targets"] if target["measured"] is None]
    assert unmeasured == []


def test_the_markdown_has_a_section_for_everything_in_the_json(folder):
    text = (folder / "benchmark.md").read_text()
    content = json.loads((folder / "benchmark.json").read_text())
    for case in content["cases"]:
        assert f"## {case['group'].capitalize()}: {case['name']}" in text
    for sweep in content["sweeps"]:
        assert f"### Scaling of {sweep['name']}" in text
    assert "## Targets" in text
    assert "## Share of a training step outside convolutions" in text


def test_the_plot_is_a_png(folder):
    assert (folder / "scaling.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds is 0; give at least 1"),
        (["--height", "100"], "give sides above 128"),
    ],
)
def test_unusable_arguments_are_one_sentence(arguments, message, capsys):
    assert main([*arguments, "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err


def test_without_faster_coco_eval_the_group_evaluation_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["--only", "evaluation", "--device", "cpu"]) == 2
    assert "pip install 'focal_retina[eval]'" in capsys.readouterr().err
