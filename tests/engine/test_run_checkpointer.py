"""Disks that are full or read-only, files that a killed run left, and which checkpoints stay."""

import resource
import subprocess
from contextlib import contextmanager

import pytest
import torch
from detectron2.engine import hooks
from tiny_runs import Died, build


@contextmanager
def no_file_above(size):
    """Let the kernel refuse what would make a file longer, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("*.pth"))


def refuse_files_during(trainer, first, last):
    """Let checkpoints be refused in these iterations, and tell what happened in the others."""
    refusal = no_file_above(2000)

    def before(trainer):
        if trainer.iter == first:
            refusal.__enter__()

    def after(trainer):
        if trainer.iter == last:
            refusal.__exit__(None, None, None)

    trainer.register_hooks([hooks.CallbackHook(before_step=before, after_step=after)])


def test_a_checkpoint_that_cannot_be_written_is_an_error_and_training_goes_on(tmp_path, caplog):
    trainer = build(tmp_path, period=2)
    refuse_files_during(trainer, 4, 6)
    trainer.run()
    assert (
        f"checkpoint {tmp_path}/model_0000005.pth cannot be written (File too large); the last "
        f"good checkpoint is {tmp_path}/model_0000003.pth; the training goes on, and iteration 7 "
        "tries again"
    ) in caplog.text
    assert checkpoints(tmp_path) == [
        *[f"model_{i:07d}.pth" for i in (1, 3, 7, 9, 11)],
        "model_final.pth",
    ]
    assert list(tmp_path.glob("*.unfinished")) == []


def test_a_final_checkpoint_that_cannot_be_written_ends_the_run(tmp_path, caplog):
    trainer = build(tmp_path)
    with no_file_above(10**6):
        refuse_files_during(trainer, 8, 99)
        with pytest.raises(SystemExit) as stopped:
            trainer.run()
    assert stopped.value.code == 2
    assert trainer.storage.latest()["score"][1] == 7  # no evaluation of what is not saved
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000007.pth"
    assert (
        f"checkpoint {tmp_path}/model_final.pth cannot be written (File too large); the last good "
        f"checkpoint is {tmp_path}/model_0000007.pth; the run ends here: make it writable and go "
        "on with --resume"
    ) in caplog.text
    assert "Exception during training" not in caplog.text


def test_after_a_refusal_the_run_can_be_resumed(tmp_path):
    trainer = build(tmp_path / "refused")
    with no_file_above(10**6), pytest.raises(SystemExit):
        refuse_files_during(trainer, 8, 99)
        trainer.run()
    build(tmp_path / "refused").run()
    build(tmp_path / "unbroken").run()
    models = [
        torch.load(tmp_path / name / "model_final.pth", weights_only=True)["model"]
        for name in ("refused", "unbroken")
    ]
    torch.testing.assert_close(*models, atol=0, rtol=0)


def test_the_newest_checkpoints_and_the_best_and_the_final_one_stay(tmp_path):
    trainer = build(tmp_path, period=2, max_to_keep=2)
    torch.save({}, tmp_path / "model_best.pth")
    trainer.run()
    expected = ["model_0000009.pth", "model_0000011.pth", "model_best.pth", "model_final.pth"]
    assert checkpoints(tmp_path) == expected


def test_checkpoints_of_before_a_resume_are_counted(tmp_path):
    with pytest.raises(Died):
        build(tmp_path, period=2, max_to_keep=3, die_at=(8, "step")).run()
    assert checkpoints(tmp_path) == [f"model_{i:07d}.pth" for i in (3, 5, 7)]
    build(tmp_path, period=2, max_to_keep=3).run()
    assert checkpoints(tmp_path) == [*[f"model_{i:07d}.pth" for i in (7, 9, 11)], "model_final.pth"]


@pytest.mark.parametrize("option", [{"period": 0}, {"max_to_keep": 0}])
def test_a_number_below_one_is_an_error(tmp_path, option):
    with pytest.raises(ValueError, match=r"SOLVER\..*\(train\.checkpointer\..*\) is 0"):
        build(tmp_path, **option)


def test_what_a_killed_run_left_is_removed(tmp_path, caplog):
    (tmp_path / "model_0000003.pth.unfinished").write_bytes(b"half")
    caplog.set_level("INFO")
    build(tmp_path).run()
    assert list(tmp_path.glob("*.unfinished")) == []
    assert "model_0000003.pth.unfinished, which a killed run has left" in caplog.text


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 400 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder]
    if subprocess.run(mounting, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder):
    with open(folder / "ballast", "wb", buffering=0) as file:
        with pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(512))


def test_a_full_disk_costs_nothing_but_the_checkpoints_of_its_time(small_disk, tmp_path, caplog):
    trainer = build(small_disk, period=2)

    def before(trainer):
        if trainer.iter == 4:
            fill(small_disk)

    def after(trainer):
        if trainer.iter == 6:
            (small_disk / "ballast").unlink()

    trainer.register_hooks([hooks.CallbackHook(before_step=before, after_step=after)])
    trainer.run()
    assert "model_0000005.pth cannot be written (No space left on device)" in caplog.text
    assert checkpoints(small_disk) == [
        *[f"model_{i:07d}.pth" for i in (1, 3, 7, 9, 11)],
        "model_final.pth",
    ]
    build(tmp_path / "unbroken", period=2).run()
    models = [
        torch.load(folder / "model_final.pth", weights_only=True)["model"]
        for folder in (small_disk, tmp_path / "unbroken")
    ]
    torch.testing.assert_close(*models, atol=0, rtol=0)
    lines = [(folder / "metrics.json").read_text().count("\n") for folder in (small_disk,)]
    assert lines == [(tmp_path / "unbroken/metrics.json").read_text().count("\n")]
