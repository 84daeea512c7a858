"""A run that is resumed is the unbroken one."""

import json
import shutil

import pytest
import torch
from helpers.same_runs import check_same, final_state, metrics
from helpers.tiny_jobs import run_here, write_jobs
from helpers.tiny_runs import RECORDS, Died, build, noisy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments.crash_test.comparison import differences, unequal
from focal_retina.data.loader import build_train_loader
from focal_retina.errors import UserError
from focal_retina.run_files import watch
from focal_retina.training.resume import restart_metrics


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


def all_keys(folder):
    return [json.loads(line).keys() for line in (folder / "metrics.json").open()]


@pytest.mark.parametrize(("period", "at"), [(1, 5), (2, 4), (3, 9), (4, 5)])
def test_lines_soon_after_a_resume_have_what_the_unbroken_run_wrote(tmp_path, period, at):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    build(unbroken, period=period).run()
    die(broken, (at, "step"), period=period)
    build(broken, period=period).run()
    assert all_keys(broken) == all_keys(unbroken)
    assert metrics(broken) == metrics(unbroken)


def test_a_run_that_starts_again_begins_its_metrics_anew(unbroken, tmp_path):
    folder = tmp_path / "dead"
    die(folder, (10, "step"), period=100)
    written = (folder / "metrics.json").read_bytes()
    again = build(folder)
    restart_metrics(again)
    again.run()
    check_same(folder, unbroken)
    assert (folder / "metrics.json.before").read_bytes() == written
    assert scalars(folder, "total_loss") == scalars(unbroken, "total_loss")


TAILS = [b"\0" * 50, b"garbage\n", b"[1]\n", b"7\n", b'{"loss": 1}\n', b'{"iteration": "x"}\n']
TAILS += [b'{"iteration": 5', b"[" * 100_000 + b"\n", b"\xff\xfe\n"]


@pytest.mark.parametrize("tail", TAILS, ids=lambda x: repr(x[:10]))
def test_a_longer_run_cuts_off_what_it_cannot_read_of_its_metrics(tmp_path, tail, caplog):
    build(tmp_path, max_iter=6).run()
    kept = metrics(tmp_path)
    with (tmp_path / "metrics.json").open("ab") as file:
        file.write(tail)
    build(tmp_path, max_iter=12).run()
    assert metrics(tmp_path)[: len(kept)] == kept
    assert "metrics.json has a broken line" in caplog.text


def change(folder, *path, value):
    """Put a value into the state of the trainer of the last checkpoint."""
    file = folder / "model_0000003.pth"
    content = torch.load(file, weights_only=True)
    node = content["trainer"]
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    torch.save(content, file)


RESUME = ("hooks", "ExactResume")
LOADER = (*RESUME, "loaders", "train")
HOSTILE = [
    *[(("iteration",), x) for x in ("3", None, -7, 3.5)],
    *[((*RESUME, "seed"), x) for x in ("x", -5, 2**80, None, torch.ones(3))],
    *[((*RESUME, "metrics"), x) for x in ([1], "abc", [("a", True, "xy")], None)],
    *[((*RESUME, "max_iter"), x) for x in ([], "12")],
    *[((*RESUME, "writers", "ResumableJSONWriter"), x) for x in ({"size": "big"}, [1], None)],
    *[((*RESUME, "writers"), x) for x in ("none", [])],
    *[((*RESUME, "loaders"), x) for x in (3, {"train": 4})],
    *[((*LOADER, "position"), x) for x in (10**8, 2**62, "4", -1, 2.5)],
    *[((*LOADER, "seed"), x) for x in ("1", -1, [])],
    *[((*LOADER, "batches"), x) for x in ({}, {"processes": "x" * 9}, None)],
    *[((*LOADER, "batches", "images of a process"), x) for x in (10**12, "3")],
    *[((*LOADER, "sampler"), x) for x in ({"_seed": "x"}, [], {"_seed": -1})],
    *[((*LOADER, "data"), x) for x in ({"images": "all"}, 5)],
    *[(("hooks", "RunCheckpointer"), x) for x in ({}, {"recent_checkpoints": 3}, "x")],
    *[(("hooks",), x) for x in ([], 5)],
    *[(("optimizer",), x) for x in ({}, {"state": {}, "param_groups": []}, None)],
    *[(("optimizer", "param_groups", 0, "lr"), x) for x in ("fast", [])],
    *[(("solver",), x) for x in ({}, {"kind": "SGD", "options": 5}, "x")],
]


@pytest.mark.parametrize(("path", "value"), HOSTILE, ids=str)
def test_an_unusable_state_is_named_with_its_checkpoint(state_of_4, path, value):
    change(state_of_4, *path, value=value)
    before = (state_of_4 / "metrics.json").read_bytes()
    sentence = f"checkpoint {state_of_4}/model_0000003.pth cannot be resumed: .*"
    with pytest.raises(UserError, match=sentence) as caught:
        build(state_of_4)
    assert len(str(caught.value)) < 700
    assert (state_of_4 / "metrics.json").read_bytes() == before


@pytest.fixture
def state_of_4(tmp_path):
    die(tmp_path, (5, "step"))
    return tmp_path


@pytest.mark.parametrize("key", ["_size", "_rank", "__iter__", "_infinite_indices", "dataset"])
def test_a_state_sets_nothing_of_a_sampler_but_what_it_draws(state_of_4, key):
    change(state_of_4, *LOADER, "sampler", key, value=0)
    trainer = build(state_of_4)
    assert vars(trainer.data_loader.sampler).get(key) != 0 or key == "_rank"
    trainer.run()


def test_no_file_is_removed_that_is_no_periodic_checkpoint(state_of_4, tmp_path_factory):
    outside = tmp_path_factory.mktemp("home") / "model_0000001.pth"
    inside = [state_of_4 / x for x in ("config.yaml", "model_best.pth", "model_01.pth", "x.tex")]
    for path in [outside, *inside]:
        path.write_text("mine")
    names = [str(outside), "../home0/model_0000001.pth", *(x.name for x in inside), 7, None]
    change(state_of_4, "hooks", "RunCheckpointer", "recent_checkpoints", value=names)
    build(state_of_4, max_to_keep=1).run()
    assert all(path.read_text() == "mine" for path in [outside, *inside])
    periodic = [x.name for x in state_of_4.glob("model_*.pth") if x not in inside]
    assert sorted(periodic) == ["model_0000003.pth", "model_0000011.pth", "model_final.pth"]


def test_metrics_that_cannot_be_opened_end_no_resumed_run(unbroken, tmp_path, caplog):
    folder = tmp_path / "broken"
    die(folder, (5, "step"))
    (folder / "metrics.json").unlink()
    (folder / "metrics.json").mkdir()
    watch(str(folder))
    die(folder, (9, "step"))
    build(folder).run()
    assert list(unequal(final_state(folder)["model"], final_state(unbroken)["model"])) == []
    refused = [x for x in caplog.messages if "cannot be written" in x or "is not the file" in x]
    assert refused == [
        f"{folder}/metrics.json cannot be written (Is a directory); the run goes on without it"
    ]
