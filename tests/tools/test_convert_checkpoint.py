"""The converter writes both of its files whole, and over nothing that it or a run needs."""

import pytest
import torch
from helpers.mounts import mounted
from helpers.small_states import SOURCES, checkpoint_of, small_state

from focal_retina.settings.yaml_files import read_config
from focal_retina.tools.convert_checkpoint import main

OPTIONS = {"torchvision": ["--background", "no"]}


@pytest.fixture
def source(tmp_path):
    torch.save(checkpoint_of("mmdetection"), tmp_path / "source.pth")
    return tmp_path / "source.pth"


def convert(*arguments):
    return main([str(x) for x in arguments])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", SOURCES)
def test_weights_classes_and_config_are_written(kind, tmp_path):
    (tmp_path / "in").mkdir()
    torch.save(checkpoint_of(kind), tmp_path / "in" / "a.pth")
    if kind == "detectron1":  # its arrays are for a .pkl, which other tests read
        state = {"blobs": small_state(kind)}
        torch.save(state, tmp_path / "in" / "a.pth")
    target = tmp_path / "new" / "folder" / "b.pth"
    assert convert(tmp_path / "in" / "a.pth", target, *OPTIONS.get(kind, [])) == 0
    names = torch.load(target)["class_names"]
    assert names == (None if kind == "detectron1" else ["a", "b", "c"])
    config = read_config(str(target.with_suffix(".yaml")), trust_config=False)
    assert config["MODEL"]["WEIGHTS"] == str(target)


def test_the_same_conversion_may_be_repeated(source, tmp_path):
    target = tmp_path / "target.pth"
    assert convert(source, target) == 0
    assert convert(source, target) == 0


@pytest.mark.parametrize("link", [False, True])
def test_the_source_is_not_replaced(link, source, tmp_path, capsys):
    target = source
    if link:
        target = tmp_path / "link.pth"
        target.symlink_to(source)
    before = contents(tmp_path)
    assert convert(source, target) == 2
    assert f"{target} is read here" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_the_config_of_a_run_is_not_replaced(source, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("VERSION: 2\n")
    before = contents(tmp_path)
    assert convert(source, tmp_path / "config.pth") == 2
    assert "config.yaml is there with other content" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_back_to_torchvision_neither_source_nor_its_config_is_replaced(source, tmp_path, capsys):
    torch.save(checkpoint_of("detectron2"), source)
    (tmp_path / "config.pth").write_text("VERSION: 2\n")
    before = contents(tmp_path)
    for target in (source, tmp_path / "config.pth"):
        arguments = ("--to", "torchvision", "--config-file", tmp_path / "config.pth")
        assert convert(source, target, *arguments) == 2
    assert contents(tmp_path) == before


def test_a_full_disk_leaves_the_old_files(source, tmp_path, capsys):
    with mounted(tmp_path / "disk", "size=64k") as disk:
        (disk / "a.pth").write_bytes(b"old")
        before = contents(disk)
        assert convert(source, disk / "a.pth") == 2
        assert "a.pth cannot be written: No space left on device" in capsys.readouterr().err
        assert contents(disk) == before


def test_options_of_torchvision_are_refused_for_other_sources(source, tmp_path, capsys):
    assert convert(source, tmp_path / "a.pth", "--background", "no") == 2
    assert "are for torchvision's models only" in capsys.readouterr().err


def test_class_names_of_another_number_are_left_out_with_a_note(source, tmp_path, capsys):
    content = checkpoint_of("mmdetection")
    content["meta"]["CLASSES"] = ("a", "b")
    torch.save(content, source)
    assert convert(source, tmp_path / "a.pth") == 0
    assert "note: left out its class names, which are no list of 3" in capsys.readouterr().out
    assert torch.load(tmp_path / "a.pth")["class_names"] is None
