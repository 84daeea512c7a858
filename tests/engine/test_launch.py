"""What train_net.py says when the disk or a file is broken: one sentence."""

import os

import pytest
from helpers.mounts import mounted
from helpers.tiny_jobs import catalogs_restored, options, run_here, write_jobs


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A config that was trained for two iterations, with a checkpoint after each."""
    folder = write_jobs(tmp_path_factory.mktemp("job"))
    with catalogs_restored():
        run_here(
            *("--config-file", folder / "tiny.yaml", "OUTPUT_DIR", folder / "trained"),
            *("SOLVER.CHECKPOINT_PERIOD", 1, "DATASETS.TEST", "()"),
        )
    return folder


@pytest.fixture
def read_only(tmp_path):
    with mounted(tmp_path / "read_only", "ro") as folder:
        yield folder


@pytest.mark.parametrize("kind", ["yaml", "py"])
def test_a_read_only_output_folder_ends_the_run_at_once(job, read_only, sentence_of, kind):
    key = "OUTPUT_DIR" if kind == "yaml" else "train.output_dir"
    wanted = options(kind, output_dir=read_only)
    assert sentence_of("--config-file", job / f"tiny.{kind}", *wanted) == (
        f"train_net.py: error: {key} {read_only} cannot be written: Read-only file system; name "
        "another folder"
    )


def test_a_file_in_the_place_of_the_output_folder_ends_the_run_at_once(job, sentence_of):
    folder = job / "tiny.yaml"
    said = sentence_of("--config-file", job / "tiny.yaml", "OUTPUT_DIR", folder)
    assert said.endswith(f"OUTPUT_DIR {folder} cannot be written: File exists; name another folder")


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
    with catalogs_restored():
        config = ["--config-file", job / "tiny.yaml", "DATASETS.TEST", "()"]
        run_here("--resume", *config, "OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 3)
    said = capsys.readouterr().out
    assert f"Checkpoint {final} is damaged (its end is missing): looking for another" in said
    assert "Starting training from iteration 2" in said
