"""The keys of a run work together, in either kind of config, and bad values end in a sentence."""

import json

import pytest
import torch
from helpers.tiny_jobs import catalogs_restored, run_here, write_jobs
from omegaconf import OmegaConf

from focal_retina.settings.options import TrainingOptions, clip_gradients

OPTIONS = {
    "tiny.yaml": [
        *("SOLVER.ACCUMULATION_STEPS", 2, "SOLVER.EMA_DECAY", 0.9, "TEST.VAL_LOSS", True),
        *("TEST.BEST.METRIC", "val_total_loss", "TEST.BEST.MODE", "min", "TEST.EVAL_PERIOD", 1),
        *("SOLVER.CLIP_GRADIENTS.ENABLED", True, "OUTPUT_DIR"),
    ],
    "tiny.py": [
        *("train.accumulation_steps=2", "train.ema_decay=0.9", "train.val_loss=True"),
        *("train.best.metric=val_total_loss", "train.best.mode=min", "train.eval_period=1"),
        "train.clip_gradients.clip_type=value",
    ],
}


@pytest.mark.parametrize("config", OPTIONS)
def test_every_option_together_trains_evaluates_and_keeps_the_best(tmp_path, config):
    jobs = write_jobs(tmp_path)
    folder = {"tiny.yaml": tmp_path, "tiny.py": f"train.output_dir={tmp_path}"}[config]
    with catalogs_restored():
        run_here("--config-file", jobs / config, *OPTIONS[config], folder)
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").open()]
    found = [line["val_total_loss"] for line in lines if "val_total_loss" in line]
    assert lines[-1]["val_total_loss"] == pytest.approx(
        lines[-1]["val_loss_cls"] + lines[-1]["val_loss_box_reg"]
    )
    best = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert best["metric"] == "val_total_loss" and best["value"] <= min(found)
    assert best["class_names"] and (tmp_path / "model_final_ema.pth").is_file()


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"accumulation_steps": 3}, "SOLVER.ACCUMULATION_STEPS .* is 3; .* one process, 2"),
        ({"accumulation_steps": 0}, "ACCUMULATION_STEPS .* is 0"),
        ({"ema_decay": 1.0}, r"SOLVER.EMA_DECAY \(train.ema_decay\) is 1.0; .*for instance 0.999"),
        ({"best_metric": "bbox/AP", "best_mode": "best"}, "'best'; it is max or min"),
        ({"best_metric": "bbox/AP", "best_patience": 0}, "at least 1"),
        ({"best_patience": 3}, "names no metric"),
        ({"best_metric": "AP"}, "'AP'; it is a name in metrics.json"),
        ({"best_metric": "val_total_loss"}, "needs TEST.VAL_LOSS"),
    ],
)
def test_a_bad_value_is_an_error_before_training(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        TrainingOptions(**options).check(batch_size=2, eval_period=5, has_test_set=True)


def test_what_needs_evaluations_says_so():
    patient = TrainingOptions(best_metric="bbox/AP", best_patience=3)
    with pytest.raises(ValueError, match="TEST.EVAL_PERIOD .* is 0"):
        patient.check(batch_size=2, eval_period=0, has_test_set=True)
    with pytest.raises(ValueError, match="need a dataset in DATASETS.TEST"):
        TrainingOptions(val_loss=True).check(batch_size=2, eval_period=1, has_test_set=False)


def test_a_misspelt_option_of_a_lazy_config_is_an_error():
    with pytest.raises(ValueError, match="train.best has metric, mode and patience, not metrc"):
        TrainingOptions.of_lazy(OmegaConf.create({"best": {"metrc": "bbox/AP"}}))


def test_clipping_of_a_lazy_config_is_detectron2s():
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, -4.0])
    optimizer = torch.optim.SGD([weight], lr=1.0)
    wanted = {"clip_type": "norm", "clip_value": 0.5}
    clip_gradients(optimizer, OmegaConf.create(wanted)).step()
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.3, 0.4]))


@pytest.mark.parametrize(
    "wanted, complaint",
    [
        ({"clip_type": "sum"}, "train.clip_gradients.clip_type is 'sum'; it is value or norm"),
        ({"value": 1.0}, "train.clip_gradients has .*clip_value.*, not value"),
    ],
)
def test_other_clipping_is_an_error(wanted, complaint):
    with pytest.raises(ValueError, match=complaint):
        clip_gradients(None, OmegaConf.create(wanted))
