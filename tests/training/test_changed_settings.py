"""A run that is resumed with other settings takes them, or says in one sentence why it cannot."""

import re
import shutil

import pytest
import torch
from helpers.tiny_jobs import metrics, options, run_here, write_jobs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """A folder of two configs, and of what each has written in two iterations."""
    folder = write_jobs(tmp_path_factory.mktemp("jobs"))
    for kind in ("yaml", "py"):
        train(folder, kind, folder / kind)
    return folder


def train(jobs, kind, output, *changes, resume=False, max_iter=2):
    fixed = options(kind, output_dir=output, max_iter=max_iter, eval_period=0)
    fixed += ["DATASETS.TEST", "()"] if kind == "yaml" else ["dataloader.evaluator=null"]
    flags = ["--resume"] if resume else []
    run_here("--config-file", jobs / f"tiny.{kind}", *flags, *fixed, *changes)


def resumed(jobs, kind, output, *changes, **arguments):
    shutil.copytree(jobs / kind, output)
    train(jobs, kind, output, *changes, resume=True, **{"max_iter": 4, **arguments})
    return output


def log(folder):
    return (folder / "log.txt").read_text()


SOLVER = [
    ("yaml", ["SOLVER.BASE_LR", 0.125], {"initial_lr": {0.125}}),
    ("yaml", ["SOLVER.BIAS_LR_FACTOR", 2.0], {"initial_lr": {0.00125, 0.0025}}),
    ("yaml", ["SOLVER.WEIGHT_DECAY", 0.25], {"weight_decay": {0.25, 0.0001, 0.0}}),
    ("yaml", ["SOLVER.NESTEROV", True, "SOLVER.MOMENTUM", 0.5], {"nesterov": {True}}),
    ("py", ["optimizer.lr=0.125"], {"initial_lr": {0.125}}),
    ("py", ["optimizer.momentum=0.5"], {"momentum": {0.5}}),
]


@pytest.mark.parametrize(("kind", "changes", "wanted"), SOLVER, ids=str)
def test_what_the_optimizer_does_is_the_configs(jobs, tmp_path, kind, changes, wanted):
    resumed(jobs, kind, tmp_path / "out", *changes)
    assert "The config has changed since the checkpoint: " in log(tmp_path / "out")
    final = torch.load(tmp_path / "out/model_final.pth", weights_only=True)["trainer"]
    for option, values in wanted.items():
        assert {group[option] for group in final["optimizer"]["param_groups"]} == values


STRUCTURE = [
    ("yaml", ["MODEL.FPN.OUT_CHANNELS", 8], "weights do not fit, such as .* there and .* in"),
    ("yaml", ["MODEL.FOCAL_RETINA.SCALES_PER_OCTAVE", 2], "weights do not fit, such as head"),
    ("yaml", ["MODEL.RETINANET.NUM_CONVS", 2], "weights do not fit, such as head"),
    ("yaml", ["MODEL.BACKBONE.FREEZE_AT", 2], "weights to train, and now there are"),
    ("py", ["model.head.conv_dims=[16,16]"], "weights do not fit, such as head"),
    ("py", ["optimizer._target_=torch.optim.RMSprop"], "is SGD, and now it is"),
    ("yaml", ["SOLVER.MAX_ITER", 1], "it has 2 iterations behind it, and SOLVER.MAX_ITER is 1"),
    ("py", ["train.max_iter=1"], "it has 2 iterations behind it, and train.max_iter is 1"),
]


@pytest.mark.parametrize(("kind", "changes", "reason"), STRUCTURE, ids=str)
def test_another_model_is_one_sentence(jobs, tmp_path, kind, changes, reason, capsys):
    before = (jobs / kind / "metrics.json").read_bytes()
    with pytest.raises(SystemExit) as end:
        resumed(jobs, kind, tmp_path / "out", *changes)
    assert end.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"error: checkpoint {tmp_path}/out/model_final.pth cannot be resumed: " in error
    assert re.search(reason, error) and "set MODEL.WEIGHTS (train.init_checkpoint)" in error
    assert (tmp_path / "out/metrics.json").read_bytes() == before


@pytest.mark.parametrize("kind", ["yaml", "py"])
def test_a_run_without_a_checkpoint_starts_anew_and_says_so(jobs, tmp_path, kind):
    shutil.copytree(jobs / kind, tmp_path / "out")
    (tmp_path / "out/model_final.pth").unlink()
    (tmp_path / "out/last_checkpoint").unlink()
    train(jobs, kind, tmp_path / "out", resume=True)
    assert f"There is no checkpoint in {tmp_path}/out: the run" in log(tmp_path / "out")
    names = {"metrics.json", "model_final.pth", "last_checkpoint"}
    assert names <= {path.name for path in (tmp_path / "out").iterdir()}
    assert [x.keys() for x in metrics(tmp_path / "out")] == [x.keys() for x in metrics(jobs / kind)]
