"""A run that is resumed is the unbroken one."""

import shutil

import pytest
import torch
from helpers.same_runs import check_same, final_state, metrics
from helpers.tiny_jobs import run_here, write_jobs
from helpers.tiny_runs import RECORDS, Died, build, noisy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments.crash_test.comparison import differences, unequal
from focal_retina.data.loader import build_train_loader


def die(folder, at, **options):
    with pytest.raises(Died):
        build(folder, die_at=at, **options).run()


@pytest.fixture
def unbroken(tmp_path):
    folder = tmp_path / "unbroken"
    build(folder).run()
    return folder


MOMENTS = [
    *[(3, "evaluation"), (5, "step"), (7, "evaluation"), (8, "step"), (11, "step")],
    (12, "evaluation"),
]


@pytest.mark.parametrize("moments", [*([x] for x in MOMENTS), MOMENTS], ids=str)
def test_a_run_that_died_ends_as_if_it_had_not(unbroken, tmp_path, moments):
    folder = tmp_path / "broken"
    for at in moments:
        die(folder, at)
    build(folder).run()
    check_same(folder, unbroken)


def damage(folder):
    (folder / "model_0000007.pth").write_bytes(b"half")
    return folder


def move(folder):
    return shutil.move(folder, folder.with_name("elsewhere"))


@pytest.mark.parametrize("change", [damage, move])
def test_neither_a_damaged_last_checkpoint_nor_another_folder_matters(unbroken, tmp_path, change):
    folder = tmp_path / "broken"
    die(folder, (9, "step"))
    folder = change(folder)
    build(folder).run()
    check_same(folder, unbroken)


def test_dying_before_the_first_checkpoint_starts_anew(unbroken, tmp_path):
    folder = tmp_path / "broken"
    die(folder, (2, "step"))
    build(folder).run()
    assert list(unequal(final_state(folder), final_state(unbroken))) == []


@pytest.mark.slow
def test_the_workers_of_the_resumed_run_do_not_matter(unbroken, tmp_path):
    folder = tmp_path / "broken"
    die(folder, (9, "step"))
    loader = build_train_loader(RECORDS, mapper=noisy, total_batch_size=3, num_workers=2)
    build(folder, data_loader=loader).run()
    assert list(unequal(final_state(folder), final_state(unbroken))) == []


def test_dying_before_the_final_checkpoint_and_the_pruning_changes_nothing(tmp_path):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    build(unbroken, max_to_keep=1).run()
    die(broken, (11, "step"), max_to_keep=1)
    shutil.copytree(unbroken, broken, dirs_exist_ok=True)
    (broken / "model_final.pth").unlink()
    (broken / "last_checkpoint").write_text("model_0000011.pth")
    shutil.copy(unbroken / "model_0000011.pth", broken / "model_0000007.pth")
    build(broken, max_to_keep=1).run()
    check_same(broken, unbroken)
    assert {x.name for x in broken.glob("*.pth")} == {x.name for x in unbroken.glob("*.pth")}


def test_precise_batch_norm_goes_on_with_its_own_data(tmp_path):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    build(unbroken, precise_bn=True).run()
    die(broken, (5, "step"), precise_bn=True)
    build(broken, precise_bn=True).run()
    check_same(broken, unbroken)


def test_a_longer_run_keeps_what_the_shorter_one_wrote(tmp_path):
    build(tmp_path, max_iter=6).run()
    before = metrics(tmp_path)
    build(tmp_path, max_iter=12).run()
    after = metrics(tmp_path)
    assert after[: len(before)] == before
    assert [line["iteration"] for line in after if "total_loss" in line][-1] == 11


def scalars(folder, name):
    events = EventAccumulator(str(folder), purge_orphaned_data=True).Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_tensorboard_shows_each_iteration_once(unbroken, tmp_path):
    folder = tmp_path / "broken"
    die(folder, (10, "step"))
    build(folder).run()
    for name in ("score", "total_loss"):
        assert scalars(folder, name) == scalars(unbroken, name)


def test_a_checkpoint_without_a_position_is_warned_of(tmp_path, caplog):
    die(tmp_path, (5, "step"))
    path = tmp_path / "model_0000003.pth"
    content = torch.load(path, weights_only=True)
    del content["trainer"]["hooks"]["ExactResume"]
    torch.save(content, path)
    build(tmp_path).run()
    assert "starts the data and the metrics anew" in caplog.text


def test_a_loader_without_a_position_is_warned_of(tmp_path, caplog):
    foreign = [[noisy(record) for record in RECORDS[:3]]] * 20
    die(tmp_path, (5, "step"), data_loader=foreign)
    assert "the data anew" not in caplog.text
    build(tmp_path, data_loader=foreign).run()
    assert "The data loader has no state_dict" in caplog.text


def test_metrics_that_are_not_the_runs_are_left_alone(tmp_path, caplog):
    die(tmp_path, (9, "step"))
    (tmp_path / "metrics.json").write_text('{"iteration": 1}\n')
    build(tmp_path).run()
    assert "is not the file that the checkpoint knows" in caplog.text
    assert (tmp_path / "metrics.json").read_text().startswith('{"iteration": 1}\n')


@pytest.mark.slow
def test_a_lazy_config_with_detectron2s_loader_resumes_exactly(tmp_path):
    job = write_jobs(tmp_path) / "tiny.py"
    options = ["train.max_iter=4", "train.checkpointer.period=2", "train.log_period=1"]
    run_here("--config-file", job, *options, f"train.output_dir={tmp_path / 'unbroken'}")
    # As the disk was when the third iteration died.
    shutil.copytree(tmp_path / "unbroken", tmp_path / "broken")
    for name in ("model_0000003.pth", "model_final.pth"):
        (tmp_path / "broken" / name).unlink()
    (tmp_path / "broken/last_checkpoint").write_text("model_0000001.pth")
    options += ["dataloader.train.num_workers=2", f"train.output_dir={tmp_path / 'broken'}"]
    run_here("--resume", "--config-file", job, *options)
    assert differences(tmp_path / "unbroken", tmp_path / "broken") == []


def test_the_yaml_key_of_pruning_reaches_the_checkpoints(tmp_path):
    job = write_jobs(tmp_path) / "tiny.yaml"
    options = ["SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.CHECKPOINT_MAX_TO_KEEP", 1]
    run_here("--config-file", job, *options, "DATASETS.TEST", "()", "OUTPUT_DIR", tmp_path)
    found = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert found == ["model_0000001.pth", "model_final.pth"]
