"""What train_net.py says when the disk or a file is broken: one sentence."""

import os
from contextlib import nullcontext

import pytest
from helpers.mounts import mounted
from helpers.tiny_jobs import options, run_here

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def job(jobs):
    """A config that was trained for two iterations, with a checkpoint after each."""
    periods = options("yaml", checkpoint_period=1, test_datasets="()")
    run_here("--config-file", jobs / "tiny.yaml", "OUTPUT_DIR", jobs / "trained", *periods)
    return jobs


REASONS = {"read_only": "Read-only file system", "file": "File exists"}


@pytest.mark.parametrize("kind, key", [("yaml", "OUTPUT_DIR"), ("py", "train.output_dir")])
@pytest.mark.parametrize("place", REASONS)
def test_an_unusable_output_folder_ends_the_run(jobs, tmp_path, sentence_of, kind, key, place):
    (tmp_path / "file").touch()
    folder = tmp_path / place
    wanted = options(kind, output_dir=folder)
    with mounted(folder, "ro") if place == "read_only" else nullcontext():
        said = sentence_of("--config-file", jobs / f"tiny.{kind}", *wanted)
    cannot = f"{key} {folder} cannot be written: {REASONS[place]}; name another folder"
    assert said == f"train_net.py: error: {cannot}"


@pytest.mark.parametrize("flags", [[], ["--eval-only"]])
def test_truncated_weights_end_the_run(job, tmp_path, sentence_of, flags):
    weights = tmp_path / "weights.pth"
    weights.write_bytes((job / "trained/model_final.pth").read_bytes()[:-1000])
    wanted = options("yaml", output_dir=tmp_path, weights=weights)
    said = sentence_of(*flags, "--config-file", job / "tiny.yaml", *wanted)
    assert f"{weights} is not a checkpoint: its end is missing" in said


def test_resuming_from_damaged_checkpoints_only_ends_the_run(job, tmp_path, sentence_of):
    (tmp_path / "model_0000001.pth").write_bytes(b"half")
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    said = sentence_of("--resume", "--config-file", job / "tiny.yaml", "OUTPUT_DIR", tmp_path)
    assert f"no checkpoint in {tmp_path} is whole" in said


def test_resuming_goes_on_from_the_last_whole_checkpoint(job, tmp_path, capsys):
    for name in ("model_0000000.pth", "model_0000001.pth", "last_checkpoint"):
        os.link(job / "trained" / name, tmp_path / name)
    final = tmp_path / "model_final.pth"
    final.write_bytes((job / "trained/model_final.pth").read_bytes()[:-1000])
    wanted = options("yaml", output_dir=tmp_path, test_datasets="()", max_iter=3)
    run_here("--resume", "--config-file", job / "tiny.yaml", *wanted)
    said = capsys.readouterr().out
    assert f"Checkpoint {final} is damaged (its end is missing): looking for another" in said
    assert "Starting training from iteration 2" in said
