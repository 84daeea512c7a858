"""Loading for training and evaluation: safe, with names of classes, from converted weights."""

import math
import pickle
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import yaml
from helpers.foreign_models import Burglar, converted, randomise, write
from helpers.tiny_jobs import run_here, write_jobs
from torch import nn
from torchvision.models import detection, resnet18

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.errors import UserError


@pytest.mark.parametrize("suffix", ["pkl", "pth", "pyth"])
def test_weights_that_run_code_are_refused(suffix, tmp_path):
    burglar = Burglar(tmp_path / "witness")
    weights = write({"model": burglar}, tmp_path / f"model.{suffix}")
    with pytest.raises(UserError, match=rf"\.{suffix} is refused: it tried to use posix.system"):
        FocalCheckpointer(nn.Linear(1, 1)).load(weights)
    assert not (tmp_path / "witness").exists()
    pickle.loads(pickle.dumps(burglar))
    assert (tmp_path / "witness").exists()  # it would have


def test_weights_of_another_project_are_refused_with_the_command_that_converts_them(tmp_path):
    weights = write(resnet18().state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(UserError, match="weights of resnet; .*convert_checkpoint .*resnet18.pth"):
        FocalCheckpointer(nn.Linear(1, 1)).load(weights)


@pytest.mark.parametrize(
    "content, complete, is_refused",
    [
        ({"weight": torch.ones(2, 1)}, False, False),
        ({"weight": torch.ones(2, 1)}, True, True),
        ({"weight": torch.ones(2, 1), "bias": torch.ones(2)}, True, False),
        ({"weight": torch.ones(3, 1), "bias": torch.ones(2)}, True, True),
        ({"other": torch.ones(2, 1)}, False, True),
    ],
)
def test_weights_are_refused_if_none_fits_or_if_one_is_missing_that_all_are_needed(
    content, complete, is_refused, tmp_path
):
    weights = write({"model": content}, tmp_path / "a.pth")
    checkpointer = FocalCheckpointer(nn.Linear(1, 2), complete=complete)
    expected = pytest.raises(UserError, match="of another model") if is_refused else nullcontext()
    with expected:
        checkpointer.load(weights)


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.uint8])
def test_whole_numbers_in_the_place_of_a_weight_are_refused(kind, tmp_path):
    content = {"weight": torch.ones(2, 1).to(kind), "bias": torch.ones(2)}
    path = write({"model": content}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=f"its weight is of {str(kind)[6:]}, and a weight is a"):
        FocalCheckpointer(nn.Linear(1, 2)).load(path)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
def test_an_evaluation_refuses_weights_that_are_not_finite(value, tmp_path):
    content = {"weight": torch.full((2, 1), value, dtype=torch.float64), "bias": torch.ones(2)}
    path = write({"model": content}, tmp_path / "a.pth")
    FocalCheckpointer(nn.Linear(1, 2)).load(path)
    with pytest.raises(UserError, match="its weight has numbers that are not finite"):
        FocalCheckpointer(nn.Linear(1, 2), complete=True).load(path)


def test_an_evaluation_refuses_weights_without_the_statistics_of_a_norm(tmp_path):
    model = nn.Sequential(nn.BatchNorm2d(2))
    weights = {k: x for k, x in model.state_dict().items() if "running_var" not in k}
    path = write({"model": weights}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="1 of 4 weights do not fit, such as 0.running_var"):
        FocalCheckpointer(model, complete=True).load(path)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict"])
def test_weights_are_found_beside_others_that_are_none(key, tmp_path):
    content = {"weight": torch.ones(2, 1), "bias": torch.ones(2)}
    path = write({"model": 3, key: content}, tmp_path / "a.pth")
    model = nn.Linear(1, 2)
    FocalCheckpointer(model, complete=True).load(path)
    assert model.weight.tolist() == [[1], [1]]


def test_weights_that_detectron2_cannot_match_are_named(tmp_path):
    blobs = {"bbox_pred_w": np.array(1.0, "f4"), "cls_score_b": np.zeros(0, "f4")}
    path = write({"blobs": blobs}, tmp_path / "a.pkl")
    with pytest.raises(UserError, match="cannot be matched by their names"):
        FocalCheckpointer(nn.Linear(1, 2)).load(path)


def test_weights_of_pycls_are_matched_by_name(tmp_path):
    model = nn.ModuleDict({"stem": nn.Conv2d(1, 1, 1, bias=False)})
    weights = {"stem.weight": torch.ones(1, 1, 1, 1), "bn.num_batches_tracked": torch.tensor(3)}
    FocalCheckpointer(model).load(write({"model_state": weights}, tmp_path / "a.pyth"))
    assert model["stem"].weight.item() == 1.0


def test_the_missing_state_of_the_normaliser_is_not_reported_and_others_are(tmp_path, caplog):
    normalizers = {name: nn.BatchNorm1d(1) for name in ("normalizer", "head_normalizer")}
    model = nn.ModuleDict({"layer": nn.Linear(1, 1), "loss": nn.ModuleDict(normalizers)})
    weights = {"layer.weight": torch.ones(1, 1), "layer.bias": torch.ones(1)}
    FocalCheckpointer(model).load(write({"model": weights}, tmp_path / "a.pth"))
    assert "loss.normalizer" not in caplog.text
    assert "loss.head_normalizer" in caplog.text


def test_detectrons_backbones_are_matched_by_name_as_detectron2_does(tmp_path):
    model = nn.ModuleDict({"stem": nn.ModuleDict({"conv1": nn.Conv2d(1, 1, 1, bias=False)})})
    blob = torch.ones(1, 1, 1, 1).numpy()
    content = {"blobs": {"conv1_w": blob, "conv1_w_momentum": blob}}
    (tmp_path / "R.pkl").write_bytes(pickle.dumps(content, protocol=2))
    FocalCheckpointer(model).load(str(tmp_path / "R.pkl"))
    assert model["stem"]["conv1"].weight.item() == 1.0


@pytest.mark.slow
def test_training_continues_from_converted_weights_of_other_classes(tmp_path, caplog):
    torch.manual_seed(0)
    model = randomise(
        detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=6)
    )
    converted(model.state_dict(), tmp_path, "--background", "yes")
    write_jobs(tmp_path)
    tiny = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    job = {key: tiny[key] for key in ("DATASETS", "INPUT", "SOLVER", "DATALOADER")}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job | {"_BASE_": "target.yaml"}))
    opts = ["OUTPUT_DIR", tmp_path / "out", "MODEL.RETINANET.NUM_CLASSES", 6, "DATASETS.TEST", "()"]
    run_here("--config-file", tmp_path / "job.yaml", *opts)
    trained = torch.load(tmp_path / "out/model_final.pth")
    start = torch.load(tmp_path / "target.pth")["model"]
    assert trained["iteration"] == 1
    assert len(trained["class_names"]) == 6  # of the drawn shapes
    head, res2 = "head.bbox_pred.weight", "backbone.bottom_up.res2.0.conv1.weight"
    assert 0 < (trained["model"][head] - start[head]).abs().max() < 0.1
    assert torch.equal(trained["model"][res2], start[res2])
