"""Loading for training and evaluation: safe, with names of classes, from converted weights."""

import os
import pickle

import pytest
import torch
import yaml
from helpers.foreign_models import randomise
from helpers.tiny_jobs import catalogs_restored, run_here, write_jobs
from torch import nn
from torchvision.models import detection, resnet18

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.tools.convert_checkpoint import main


class Burglar:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize("suffix", ["pkl", "pth"])
def test_weights_that_run_code_are_refused_by_train_net(suffix, tmp_path, capsys):
    weights = tmp_path / f"model.{suffix}"
    if suffix == "pkl":
        weights.write_bytes(pickle.dumps({"model": Burglar()}))
    else:
        torch.save({"model": Burglar()}, weights)
    job = write_jobs(tmp_path) / "tiny.yaml"
    with catalogs_restored(), pytest.raises(SystemExit):
        run_here("--config-file", job, "MODEL.WEIGHTS", weights, "OUTPUT_DIR", tmp_path / "out")
    assert "it tried to use posix.system" in capsys.readouterr().err


def test_weights_of_another_project_are_refused_with_the_command_that_converts_them(tmp_path):
    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(ValueError, match="weights of resnet; .*convert_checkpoint .*resnet18.pth"):
        FocalCheckpointer(nn.Linear(1, 1)).load(str(tmp_path / "resnet18.pth"))


def test_detectrons_backbones_are_matched_by_name_as_detectron2_does(tmp_path):
    model = nn.ModuleDict({"stem": nn.ModuleDict({"conv1": nn.Conv2d(1, 1, 1, bias=False)})})
    blob = torch.ones(1, 1, 1, 1).numpy()
    content = {"blobs": {"conv1_w": blob, "conv1_w_momentum": blob}}
    (tmp_path / "R.pkl").write_bytes(pickle.dumps(content, protocol=2))
    FocalCheckpointer(model).load(str(tmp_path / "R.pkl"))
    assert model["stem"]["conv1"].weight.item() == 1.0


def test_training_continues_from_converted_weights_of_other_classes(tmp_path, caplog):
    torch.manual_seed(0)
    model = randomise(
        detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=6)
    )
    torch.save(model.state_dict(), tmp_path / "source.pth")
    assert main([str(tmp_path / "source.pth"), str(tmp_path / "target.pth")]) == 0
    write_jobs(tmp_path)
    job = yaml.safe_load((tmp_path / "target.yaml").read_text())
    tiny = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    job["MODEL"]["RETINANET"]["NUM_CLASSES"] = 6
    job |= {key: tiny[key] for key in ("DATASETS", "INPUT", "SOLVER", "DATALOADER")}
    job["INPUT"] |= {"FORMAT": "RGB"}
    job["DATASETS"]["TEST"] = []
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    with catalogs_restored():
        run_here("--config-file", tmp_path / "job.yaml", "OUTPUT_DIR", tmp_path / "out")
    trained = torch.load(tmp_path / "out/model_final.pth")
    start = torch.load(tmp_path / "target.pth")["model"]
    assert trained["iteration"] == 1
    assert len(trained["class_names"]) == 6  # of the drawn shapes
    steps = trained["model"]["head.bbox_pred.weight"] - start["head.bbox_pred.weight"]
    assert 0 < steps.abs().max() < 0.1
    assert torch.equal(
        trained["model"]["backbone.bottom_up.res2.0.conv1.weight"],
        start["backbone.bottom_up.res2.0.conv1.weight"],
    )
