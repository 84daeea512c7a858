"""A checkpoint of other classes keeps everything but the logits of classes it does not know."""

import math

import pytest
import torch
from detectron2.modeling import build_model
from helpers.batches import GN_R18, detectron2_retinanet_config

from focal_retina.checkpoint.checkpointer import FocalCheckpointer

PRIOR_BIAS = -math.log((1 - 0.01) / 0.01)


def model_of(num_classes):
    overrides = {"MODEL.FPN.OUT_CHANNELS": 32, "MODEL.RETINANET.NUM_CLASSES": num_classes}
    overrides["MODEL.META_ARCHITECTURE"] = "FocalRetinaNet"
    return build_model(detectron2_retinanet_config({**GN_R18, **overrides}))


def trained(names, folder):
    """Save a model whose class biases are 0, 1, 2, ... for each anchor; return it."""
    torch.manual_seed(1)
    model = model_of(len(names))
    model.head.cls_score.bias.data = torch.arange(float(len(names))).repeat(9)
    FocalCheckpointer(model, str(folder), class_names=names).save("model")
    return model


def load(names, folder, caplog, num_classes=None):
    model = model_of(num_classes or len(names))
    caplog.clear()
    with caplog.at_level("WARNING"):
        FocalCheckpointer(model, class_names=names).load(str(folder / "model.pth"))
    return model, caplog.text


@pytest.mark.parametrize("wanted", [["b", "new", "a"], ["new", "c"], ["c", "b", "a"], ["b"]])
def test_names_in_both_keep_their_logits_and_the_others_get_the_prior(wanted, tmp_path, caplog):
    source = trained(["a", "b", "c"], tmp_path)
    model, log = load(wanted, tmp_path, caplog)
    known = {"a": 0.0, "b": 1.0, "c": 2.0}
    expected = torch.tensor([known.get(name, PRIOR_BIAS) for name in wanted]).repeat(9)
    torch.testing.assert_close(model.head.cls_score.bias.data, expected)
    ours = model.head.cls_score.weight.unflatten(0, (9, -1))
    theirs = source.head.cls_score.weight.unflatten(0, (9, -1))
    for i, name in enumerate(wanted):
        same = name in known and torch.equal(ours[:, i], theirs[:, "abc".index(name[0])])
        assert same == (name in known)
    assert "the checkpoint has 3 classes" in log
    assert f"other {len(set(wanted) - set(known))} start anew with the prior" in log


def test_everything_else_is_kept(tmp_path, caplog):
    source = trained(["a", "b", "c"], tmp_path).state_dict()
    model, log = load(["x", "y"], tmp_path, caplog)
    for name, value in model.state_dict().items():
        assert "cls_score" in name or torch.equal(value, source[name]), name
    assert "no name is in both" in log
    assert "Skip loading" not in log


def test_the_same_classes_are_loaded_as_they_are_and_silently(tmp_path, caplog):
    source = trained(["a", "b", "c"], tmp_path)
    for names in (["a", "b", "c"], None):
        model, log = load(names, tmp_path, caplog, num_classes=3)
        assert torch.equal(model.head.cls_score.weight, source.head.cls_score.weight)
        assert torch.equal(model.head.cls_score.bias, source.head.cls_score.bias)
        assert log == ""


def test_without_names_another_number_of_classes_starts_anew(tmp_path, caplog):
    trained(["a", "b", "c"], tmp_path)
    model, log = load(None, tmp_path, caplog, num_classes=1)
    assert torch.allclose(model.head.cls_score.bias, torch.tensor(PRIOR_BIAS))
    assert "the names of either are unknown" in log
