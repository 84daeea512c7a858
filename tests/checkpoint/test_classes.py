"""A checkpoint of other classes keeps everything but the logits of classes it does not know."""

import math

import pytest
import torch
from detectron2.modeling import build_model
from helpers.batches import GN_R18, detectron2_retinanet_config

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.checkpoint.classes import classes_of, refuse_other_classes
from focal_retina.errors import UserError

PRIOR_BIAS = -math.log((1 - 0.01) / 0.01)


def model_of(num_classes, more=()):
    overrides = {"MODEL.FPN.OUT_CHANNELS": 32, "MODEL.RETINANET.NUM_CLASSES": num_classes}
    overrides |= dict(more)
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


def evaluate_with(names, folder, num_classes=None):
    """Load the weights as an evaluation does; return the model."""
    model = model_of(num_classes or len(names))
    checkpointer = FocalCheckpointer(model, class_names=names, complete=True)
    checkpointer.load(str(folder / "model.pth"))
    return model


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


@pytest.mark.parametrize(
    "names, num_classes, sentence",
    [
        (["a", "b"], 2, "other classes, 3 for the model's 2: only it has c"),
        (["a", "b", "z"], 3, "only it has c and only the model has z"),
        (list("abcd"), 4, "only the model has d"),
        (None, 2, r"it has 3 \(a, b, c\), and the model 2"),
    ],
)
def test_an_evaluation_refuses_other_classes_and_says_which_differ(
    names, num_classes, sentence, tmp_path
):
    trained(["a", "b", "c"], tmp_path)
    with pytest.raises(UserError, match=sentence):
        evaluate_with(names, tmp_path, num_classes)


def test_an_evaluation_refuses_another_number_of_classes_without_names(tmp_path):
    torch.save({"model": model_of(2).state_dict()}, tmp_path / "model.pth")
    with pytest.raises(UserError, match="it has 2, and the model 3"):
        evaluate_with(["a", "b", "c"], tmp_path)


def test_an_evaluation_finds_the_logits_of_the_same_classes_in_another_order(tmp_path):
    trained(["a", "b", "c"], tmp_path)
    model = evaluate_with(["c", "a", "b"], tmp_path)
    assert torch.equal(model.head.cls_score.bias, torch.tensor([2.0, 0.0, 1.0]).repeat(9))


def test_background_logits_of_a_softmax_are_no_class(tmp_path, caplog):
    softmax = {"MODEL.FOCAL_RETINA.CLS_LOSS": "softmax_focal"}
    source = model_of(3, softmax)
    source.head.cls_score.bias.data = torch.arange(4.0).repeat(9)
    FocalCheckpointer(source, str(tmp_path), class_names=["a", "b", "c"]).save("model")
    model = model_of(2, softmax)
    FocalCheckpointer(model, class_names=["c", "b"]).load(str(tmp_path / "model.pth"))
    assert torch.equal(model.head.cls_score.bias, torch.tensor([2.0, 1.0, 3.0]).repeat(9))
    with pytest.raises(UserError, match="it has 3, and the model 2"):
        refuse_other_classes(source.state_dict(), model.state_dict(), 2, None, None)


@pytest.mark.parametrize(
    "stated",
    [
        *({"class_names": x} for x in (3, torch.ones(2), {"a": 1}, "abc", ["a", 1], [["a"]])),
        *({"class_names": ["a"], "category_ids": x} for x in (3, ["1"], [1, 2], torch.ones(1))),
        {"category_ids": [1]},
    ],
    ids=str,
)
def test_malformed_names_or_ids_of_classes_are_refused(stated):
    with pytest.raises(UserError, match="its (class_names|category_ids) are no list"):
        classes_of(stated)


def test_names_and_ids_of_classes_travel_with_the_checkpoint(tmp_path):
    saving = {"class_names": ["a", "b"], "category_ids": [3, 9]}
    FocalCheckpointer(model_of(2), str(tmp_path), **saving).save("model")
    assert classes_of(torch.load(tmp_path / "model.pth")) == (["a", "b"], [3, 9])
