"""Disks that are full or read-only, files that a killed run left, and which checkpoints stay."""

import resource

import pytest
import torch
from detectron2.engine import hooks
from helpers.mounts import mounted
from helpers.processes_gone import gone_process
from helpers.tiny_runs import Died, build
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


@pytest.fixture
def refuse_files():
    """Return a function after which the kernel refuses long files, as a full disk does, or not."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(refuses):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000 if refuses else limits[0], limits[1]))

    yield limit
    limit(False)


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("*.pth"))


def numbered(*iterations):
    return [f"model_{i:07d}.pth" for i in iterations]


def between(trainer, first, last, begin, end):
    """Let something begin before an iteration of the training, and end after another."""
    before = hooks.CallbackHook(before_step=lambda x: begin() if x.iter == first else None)
    after = hooks.CallbackHook(after_step=lambda x: end() if x.iter == last else None)
    trainer.register_hooks([before, after])


def check_same_weights(*folders):
    models = [torch.load(x / "model_final.pth", weights_only=True)["model"] for x in folders]
    torch.testing.assert_close(*models, atol=0, rtol=0)


def test_a_refused_checkpoint_is_an_error_and_training_goes_on(tmp_path, refuse_files, caplog):
    trainer = build(tmp_path, period=2)
    between(trainer, 4, 6, lambda: refuse_files(True), lambda: refuse_files(False))
    trainer.run()
    assert (
        f"checkpoint {tmp_path}/model_0000005.pth cannot be written (File too large); the last "
        f"good checkpoint is {tmp_path}/model_0000003.pth; the training goes on, and iteration 7 "
        "tries again"
    ) in caplog.text
    assert checkpoints(tmp_path) == [*numbered(1, 3, 7, 9, 11), "model_final.pth"]
    assert list(tmp_path.glob(".unfinished-*")) == []


def test_a_refused_final_checkpoint_ends_a_run_that_can_be_resumed(tmp_path, refuse_files, caplog):
    folder = tmp_path / "unsaved"
    trainer = build(folder)
    between(trainer, 8, 99, lambda: refuse_files(True), None)
    with pytest.raises(SystemExit) as stopped:
        trainer.run()
    refuse_files(False)
    assert stopped.value.code == 2
    assert trainer.storage.latest()["score"][1] == 7  # no evaluation of what is not saved
    assert (folder / "last_checkpoint").read_text() == "model_0000007.pth"
    assert (
        f"checkpoint {folder}/model_final.pth cannot be written (File too large); the last good "
        f"checkpoint is {folder}/model_0000007.pth; the run ends here: make it writable and go "
        "on with --resume"
    ) in caplog.text
    assert caplog.text.count("the run ends here") == 1
    assert "Exception during training" not in caplog.text
    build(folder).run()
    build(tmp_path / "unbroken").run()
    check_same_weights(folder, tmp_path / "unbroken")


def test_the_newest_checkpoints_and_the_best_and_the_final_one_stay(tmp_path):
    trainer = build(tmp_path, period=2, max_to_keep=2)
    torch.save({}, tmp_path / "model_best.pth")
    trainer.run()
    assert checkpoints(tmp_path) == [*numbered(9, 11), "model_best.pth", "model_final.pth"]


def test_checkpoints_of_before_a_resume_are_counted(tmp_path):
    with pytest.raises(Died):
        build(tmp_path, period=2, max_to_keep=3, die_at=(8, "step")).run()
    assert checkpoints(tmp_path) == numbered(3, 5, 7)
    build(tmp_path, period=2, max_to_keep=3).run()
    assert checkpoints(tmp_path) == [*numbered(7, 9, 11), "model_final.pth"]


def test_what_a_killed_run_left_is_removed(tmp_path, caplog):
    (tmp_path / f".unfinished-{gone_process()}-0.pth").write_bytes(b"half")
    caplog.set_level("INFO")
    build(tmp_path).run()
    assert list(tmp_path.glob(".unfinished-*")) == []
    assert "-0.pth, which a killed run has left" in caplog.text


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 400 kB."""
    with mounted(tmp_path / "disk", "size=400k") as folder:
        yield folder


def fill(folder):
    with open(folder / "ballast", "wb", buffering=0) as file:
        with pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(512))


def test_a_full_disk_costs_nothing_but_the_checkpoints_of_its_time(small_disk, tmp_path, caplog):
    trainer = build(small_disk, period=2)
    between(trainer, 4, 6, lambda: fill(small_disk), (small_disk / "ballast").unlink)
    trainer.run()
    assert "model_0000005.pth cannot be written (No space left on device)" in caplog.text
    assert checkpoints(small_disk) == [*numbered(1, 3, 7, 9, 11), "model_final.pth"]
    unbroken = tmp_path / "unbroken"
    build(unbroken, period=2).run()
    check_same_weights(small_disk, unbroken)
    lines = [(x / "metrics.json").read_text().count("\n") for x in (small_disk, unbroken)]
    assert lines[0] == lines[1]
    events = EventAccumulator(str(small_disk)).Reload()
    assert events.Scalars("total_loss")[-1].step == 11


def test_a_checkpoint_that_is_too_old_is_written_anew_and_gives_way_to_the_next(tmp_path):
    trainer, seen = build(tmp_path, period=4, minutes=1e-9), {}
    look = hooks.CallbackHook(after_step=lambda x: seen.update({x.iter: checkpoints(tmp_path)}))
    trainer.register_hooks([look])
    trainer.run()
    assert seen[2] == ["model_interim.pth"]
    assert seen[3] == numbered(3)
    assert seen[6] == [*numbered(3), "model_interim.pth"]
    assert checkpoints(tmp_path) == [*numbered(3, 7, 11), "model_final.pth"]


def test_a_run_goes_on_from_the_checkpoint_of_the_clock_to_the_bit(tmp_path):
    folder, unbroken = tmp_path / "broken", tmp_path / "unbroken"
    with pytest.raises(Died):
        build(folder, minutes=1e-9, die_at=(3, "step")).run()
    assert (folder / "last_checkpoint").read_text() == "model_interim.pth"
    resumed = build(folder)
    resumed.run()
    assert resumed.start_iter == 3
    build(unbroken).run()
    check_same_weights(folder, unbroken)


def test_a_checkpoint_is_not_written_by_the_clock_before_its_time(tmp_path):
    trainer = build(tmp_path, period=99, minutes=60)
    trainer.run()
    assert checkpoints(tmp_path) == ["model_final.pth"]
