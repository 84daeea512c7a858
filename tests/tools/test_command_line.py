"""Arguments that the commands share."""

import pytest
import torch
from helpers.tiny_jobs import write_jobs
from torchvision.models import resnet18

from focal_retina.tools import (
    analyze_anchors,
    check_dataset,
    convert_checkpoint,
    demo,
    export,
    predict,
)

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
