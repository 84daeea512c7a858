"""A checkpoint is whole or it is not there; a damaged one is found out, and another is taken."""

import os
import shutil

import pytest
import torch
from torch import nn

from focal_retina.checkpoint.atomic import unfinished_files, write_atomically
from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.checkpoint.reading import damage
from focal_retina.errors import UserError


class Counter:
    """A stand-in for a trainer's state."""

    def __init__(self, count=0):
        self.count = count

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def checkpointer(folder, value=0.0):
    model = nn.Linear(40, 50)
    nn.init.constant_(model.weight, value)
    return FocalCheckpointer(model, str(folder), trainer=Counter(int(value)))


@pytest.fixture
def folder(tmp_path):
    """Three checkpoints, of 1, 2 and 3."""
    for i in (1, 2, 3):
        checkpointer(tmp_path, i).save_run(f"model_{i:07d}", iteration=i)
        os.utime(tmp_path / f"model_{i:07d}.pth", (i, i))
    return tmp_path


def resumed(folder):
    """Return what is loaded: the model's weight and the trainer's count."""
    loading = checkpointer(folder)
    loading.resume_or_load("", resume=True)
    return loading.model.weight[0, 0].item(), loading.checkpointables["trainer"].count


def flip_a_byte(path, place=0.5):
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    path.write_bytes(b"")


DAMAGES = [flip_a_byte, cut, empty, os.remove]


def test_the_last_checkpoint_is_loaded(folder, caplog):
    assert resumed(folder) == (3.0, 3)
    assert "damaged" not in caplog.text


@pytest.mark.parametrize("harm", DAMAGES)
def test_a_damaged_one_is_named_and_the_newest_whole_one_taken(folder, harm, caplog):
    harm(folder / "model_0000003.pth")
    assert resumed(folder) == (2.0, 2)
    assert f"Checkpoint {folder}/model_0000003.pth is damaged (" in caplog.text


def test_several_damaged_ones_are_passed_over(folder):
    cut(folder / "model_0000003.pth")
    flip_a_byte(folder / "model_0000002.pth")
    assert resumed(folder) == (1.0, 1)


def test_if_none_is_whole_nothing_starts(folder):
    for path in folder.glob("*.pth"):
        cut(path)
    with pytest.raises(UserError, match="no checkpoint in .* is whole"):
        resumed(folder)


def test_an_older_checkpoint_that_the_user_named_is_taken(folder):
    (folder / "last_checkpoint").write_text("model_0000001.pth")
    assert resumed(folder) == (1.0, 1)


@pytest.mark.parametrize("tag", ["", None])
def test_a_lost_tag_loses_no_checkpoint(folder, tag):
    os.remove(folder / "last_checkpoint")
    if tag is not None:
        (folder / "last_checkpoint").write_text(tag)
    assert resumed(folder) == (3.0, 3)


def test_without_checkpoints_the_weights_are_loaded(folder, tmp_path):
    (tmp_path / "new").mkdir()
    shutil.copy(folder / "model_0000002.pth", tmp_path / "weights.pth")
    starting = checkpointer(tmp_path / "new")
    starting.resume_or_load(str(tmp_path / "weights.pth"), resume=True)
    assert starting.model.weight[0, 0].item() == 2.0
    assert starting.checkpointables["trainer"].count == 0


def test_files_of_other_kinds_are_not_resumed_from(folder):
    for path in folder.glob("model_000000*.pth"):
        cut(path)
    for name in ("model_final_ema", "nonfinite_iter_0000003", "model_best"):
        torch.save({"model": {}}, folder / f"{name}.pth")
    with pytest.raises(UserError, match="no checkpoint in .* is whole"):
        resumed(folder)


def test_the_best_model_is_not_resumed_from(folder):
    checkpointer(folder, 9).save("model_best", iteration=9)
    assert (folder / "model_best.pth").exists()
    assert resumed(folder) == (3.0, 3)


@pytest.mark.parametrize("place", [0.2, 0.4, 0.6, 0.8])
def test_every_flipped_byte_of_the_numbers_is_found(tmp_path, place):
    path = tmp_path / "model.pth"
    torch.save({"a": torch.zeros(10000)}, path)
    assert damage(str(path)) is None
    flip_a_byte(path, place)
    assert "checksum" in damage(str(path))


def test_a_file_of_before_pytorch_1_6_is_whole_or_cut(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"a": torch.zeros(100)}, path, _use_new_zipfile_serialization=False)
    assert damage(str(path)) is None
    cut(path)
    assert damage(str(path))


def test_weights_with_a_flipped_byte_are_refused(folder):
    flip_a_byte(folder / "model_0000001.pth")
    with pytest.raises(UserError, match="model_0000001.pth is not a checkpoint: the checksum"):
        checkpointer(folder).load(str(folder / "model_0000001.pth"), checkpointables=[])


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    path = str(tmp_path / "file")
    write_atomically(path, b"old")
    os.mkdir(f"{path}.unfinished")
    with pytest.raises(OSError):
        write_atomically(path, b"new")
    assert open(path, "rb").read() == b"old"


def test_an_interrupted_writing_is_found(tmp_path):
    (tmp_path / "model_0000001.pth.unfinished").write_bytes(b"half")
    (tmp_path / "model_0000001.pth").write_bytes(b"whole")
    assert [p.name for p in unfinished_files(str(tmp_path))] == ["model_0000001.pth.unfinished"]
