"""Arguments and outputs that the tools share."""

import runpy
import sys
from argparse import ArgumentTypeError
from pathlib import Path

import pytest
import torch
from helpers.tiny_jobs import write_jobs
from torchvision.models import resnet18

from focal_retina.errors import UserError
from focal_retina.tools import (
    analyze_anchors,
    check_dataset,
    convert_checkpoint,
    demo,
    export,
    predict,
)
from focal_retina.tools.command_line import check_output_file, count, make_output_folder, share

# Each ends in status 2 for another reason when it has read the config.
COMMANDS = {
    analyze_anchors: ["--dataset", "nonesuch", "--output", "{folder}/out"],
    check_dataset: ["DATASETS.TEST", "('nonesuch',)"],
    convert_checkpoint: ["{folder}/a.pth", "{folder}/b.pth", "--to", "torchvision"],
    demo: ["--output", "{folder}/out", "DATASETS.TRAIN", "()"],
    export: ["--weights", "nonesuch.pth", "--output", "{folder}/out.onnx"],
    predict: ["{folder}", "--weights", "nonesuch.pth", "--output", "{folder}/out"],
}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda x: x.__name__.rpartition(".")[2])
def test_python_tags_of_a_config_are_read_only_if_the_user_trusts_it(command, tmp_path, capsys):
    config_file = write_jobs(tmp_path) / "tagged.yaml"
    config_file.write_text("_BASE_: tiny.yaml\nTEST: {AUG: {MIN_SIZES: !!python/tuple [64]}}")
    (tmp_path / "a.png").touch()
    torch.save(resnet18().state_dict(), tmp_path / "a.pth")
    arguments = [x.format(folder=tmp_path) for x in COMMANDS[command]]
    for flags, asks in ([], True), (["--trust-config"], False):
        assert command.main(["--config-file", str(config_file), *flags, *arguments]) == 2
        assert ("pass --trust-config if you trust" in capsys.readouterr().err) is asks


TOOLS = {path.stem for path in Path(predict.__file__).parent.glob("*.py")}


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("tool", sorted(TOOLS - {"__init__", "command_line"}))
def test_every_tool_is_a_command_that_says_how_it_is_called(tool, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [tool, "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module(f"focal_retina.tools.{tool}", run_name="__main__")
    assert capsys.readouterr().out.startswith(f"usage: python -m focal_retina.tools.{tool} ")


@pytest.mark.parametrize(
    ("kind", "allowed", "refused"),
    [
        (count(), "1 2147483647", "0 2147483648 1.0 one"),
        (count(0), "0", "-1"),
        (share(), "0 0.5 1", "-0.001 1.001 nan half"),
    ],
)
def test_numbers_are_allowed_up_to_their_limits(kind, allowed, refused):
    assert [kind(text) for text in allowed.split()] == [float(text) for text in allowed.split()]
    for text in refused.split():
        with pytest.raises(ArgumentTypeError, match=f"'{text}' is not a"):
            kind(text)


def test_the_folders_of_outputs_are_made(tmp_path):
    assert make_output_folder(f"{tmp_path}/a/b") == tmp_path / "a/b"
    check_output_file(f"{tmp_path}/c/model.onnx")
    assert (tmp_path / "a/b").is_dir() and (tmp_path / "c").is_dir()


@pytest.mark.parametrize(
    ("check", "path"),
    [
        (make_output_folder, "file"),
        (check_output_file, "."),
        (check_output_file, "file/model.onnx"),
    ],
)
def test_an_output_that_cannot_be_written_is_a_user_s_mistake(check, path, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"^--output {tmp_path}/{path} "):
        check(f"{tmp_path}/{path}")
