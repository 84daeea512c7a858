"""A checkpoint is whole or it is not there; a damaged one is found out, and another is taken."""

import os
import shutil
from functools import partial

import pytest
import torch
from torch import nn

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.checkpoint.reading import damage
from focal_retina.errors import UserError


def checkpointer(folder, value=0.0):
    """Return a checkpointer whose model and trainer, here another layer, have this weight."""
    model, trainer = nn.Linear(40, 50), nn.Linear(1, 1)
    for layer in (model, trainer):
        nn.init.constant_(layer.weight, value)
    return FocalCheckpointer(model, str(folder), trainer=trainer)


def weights(loaded):
    """Return the weight of the model and of the trainer."""
    layers = loaded.model, loaded.checkpointables["trainer"]
    return tuple(layer.weight[0, 0].item() for layer in layers)


@pytest.fixture
def folder(tmp_path):
    """Three checkpoints, of 1, 2 and 3."""
    for i in (1, 2, 3):
        checkpointer(tmp_path, i).save_run(f"model_{i:07d}", iteration=i)
        os.utime(tmp_path / f"model_{i:07d}.pth", (i, i))
    return tmp_path


def resumed(folder):
    """Return the weights that are loaded."""
    loading = checkpointer(folder)
    loading.resume_or_load("", resume=True)
    return weights(loading)


def flip_a_byte(path, place=0.5):
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)


def cut(path, share=0.5):
    os.truncate(path, int(path.stat().st_size * share))


DAMAGES = [flip_a_byte, cut, partial(cut, share=0), os.remove]


def test_the_last_checkpoint_is_loaded(folder, caplog):
    assert resumed(folder) == (3, 3)
    assert "damaged" not in caplog.text


@pytest.mark.parametrize("harm", DAMAGES)
def test_a_damaged_one_is_named_and_the_newest_whole_one_taken(folder, harm, caplog):
    harm(folder / "model_0000003.pth")
    assert resumed(folder) == (2, 2)
    assert f"Checkpoint {folder}/model_0000003.pth is damaged (" in caplog.text


def test_several_damaged_ones_are_passed_over(folder):
    cut(folder / "model_0000003.pth")
    flip_a_byte(folder / "model_0000002.pth")
    assert resumed(folder) == (1, 1)


def test_an_older_checkpoint_that_the_user_named_is_taken(folder):
    (folder / "last_checkpoint").write_text("model_0000001.pth")
    assert resumed(folder) == (1, 1)


@pytest.mark.parametrize("lose", [os.remove, partial(os.truncate, length=0)])
def test_a_lost_tag_loses_no_checkpoint(folder, lose):
    lose(folder / "last_checkpoint")
    assert resumed(folder) == (3, 3)


def test_without_checkpoints_the_weights_are_loaded(folder, tmp_path):
    (tmp_path / "new").mkdir()
    shutil.copy(folder / "model_0000002.pth", tmp_path / "weights.pth")
    starting = checkpointer(tmp_path / "new")
    starting.resume_or_load(str(tmp_path / "weights.pth"), resume=True)
    assert weights(starting) == (2, 0)


OF_OTHER_KINDS = ("model_final_ema", "nonfinite_iter_0000003", "model_best")


@pytest.mark.parametrize("others", [(), OF_OTHER_KINDS])
def test_if_none_is_whole_nothing_starts_from_files_of_other_kinds(folder, others):
    for path in folder.glob("*.pth"):
        cut(path)
    for name in others:
        torch.save({"model": {}}, folder / f"{name}.pth")
    with pytest.raises(UserError, match="no checkpoint in .* is whole"):
        resumed(folder)


def test_the_best_model_is_not_resumed_from(folder):
    checkpointer(folder, 9).save("model_best", iteration=9)
    assert (folder / "model_best.pth").exists()
    assert resumed(folder) == (3, 3)


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


TAGS = [
    b"../../etc/passwd",
    b"/etc/passwd",
    b"\xff\xfe\x80",
    b"a\0b",
    b"..",
    b".",
    b"\x1b[2J",
    b"x" * 10**6,
]


@pytest.mark.parametrize("tag", TAGS, ids=lambda x: repr(x[:16]))
def test_a_tag_that_names_no_file_of_the_folder_leads_nowhere_else(folder, tag, caplog):
    (folder / "last_checkpoint").write_bytes(tag)
    assert os.path.dirname(checkpointer(folder).get_checkpoint_file()) in ("", str(folder))
    assert resumed(folder) == (3, 3)
    assert "looking for another" in caplog.text or "No last_checkpoint" in caplog.text
    assert "\x1b" not in caplog.text


def to_loop(path):
    path.symlink_to(path.name)


STRANGE = [
    os.mkfifo,
    os.mkdir,
    to_loop,
    lambda path: path.symlink_to("/dev/zero"),
    lambda path: path.symlink_to("lost.pth"),
]


@pytest.mark.parametrize("make", STRANGE)
@pytest.mark.parametrize("name", ["last_checkpoint", "model_0000003.pth", "model_0000009.pth"])
def test_what_is_no_regular_file_is_passed_over(folder, name, make):
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    expected = 2 if name == "model_0000003.pth" else 3
    assert resumed(folder) == (expected, expected)


def test_a_folder_of_broken_links_is_no_folder_without_checkpoints(tmp_path):
    (tmp_path / "model_0000004.pth").symlink_to("/unmounted/model_0000004.pth")
    with pytest.raises(UserError, match="no checkpoint in .* is whole"):
        resumed(tmp_path)


def test_a_tag_that_is_older_than_its_siblings_wins(folder):
    (folder / "last_checkpoint").write_text("model_0000002.pth\n")
    os.utime(folder / "last_checkpoint", (0, 0))
    assert resumed(folder) == (2, 2)


def test_a_checkpoint_of_weights_only_is_refused(folder):
    torch.save({"model": nn.Linear(40, 50).state_dict()}, folder / "model_0000003.pth")
    sentence = "model_0000003.pth cannot be resumed: it has weights only.*MODEL.WEIGHTS"
    with pytest.raises(UserError, match=sentence):
        resumed(folder)


def test_a_checkpoint_of_other_shapes_is_refused_with_a_shape(folder):
    loading = FocalCheckpointer(nn.Linear(40, 51), str(folder), trainer=nn.Linear(1, 1))
    with pytest.raises(UserError, match=r"weight, which is \(50, 40\) there and \(51, 40\)"):
        loading.resume_or_load("", resume=True)


def test_a_checkpoint_that_lacks_weights_is_refused(folder):
    model = nn.Sequential(nn.Linear(40, 50))
    model.register_parameter("weight", nn.Parameter(torch.zeros(50, 40)))
    loading = FocalCheckpointer(model, str(folder), trainer=nn.Linear(1, 1))
    with pytest.raises(UserError, match="2 of 3 weights do not fit, such as 0.weight"):
        loading.resume_or_load("", resume=True)


@pytest.mark.parametrize("ranks", [5, {0: 7}, {0: [(("model",), 3)]}, {0: [("x", "y", "z")]}])
def test_unusable_states_of_processes_are_refused(folder, ranks):
    path = folder / "model_0000003.pth"
    torch.save({**torch.load(path, weights_only=True), "ranks": ranks}, path)
    with pytest.raises(UserError, match="model_0000003.pth cannot be resumed"):
        resumed(folder)
