"""Every loss and selection is chosen by key and by LazyConfig, and works in every profile."""

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall as L  # noqa: N817
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import build_model
from helpers.batches import GN_R18
from helpers.small_models import losses_and_gradients, tiny_batch

from focal_retina.modeling.classification import (
    HingeLoss,
    SigmoidFocalLoss,
    SigmoidFocalLossStar,
    SoftmaxFocalLoss,
)
from focal_retina.modeling.selection import HardExampleSelection
from focal_retina.settings.yaml_config import load_yaml

CONFIGS = Path(__file__).parents[2] / "configs"
NODE = "MODEL.FOCAL_RETINA."
BALANCED = {"MODEL.RETINANET.FOCAL_LOSS_GAMMA": 0.0}
SOFTMAX = {NODE + "CLS_LOSS": "softmax_focal"}
ALPHA_PER_CLASS = {NODE + "CLASS_ALPHA": [0.1, 0.2, 0.3, 0.4]}
CHOICES = {
    "CE": BALANCED | {"MODEL.RETINANET.FOCAL_LOSS_ALPHA": -1.0},
    "balanced CE": BALANCED,
    "focal": {},
    "alpha per class": ALPHA_PER_CLASS,
    "FL*": {NODE + "CLS_LOSS": "focal_star"},
    "hinge": {NODE + "CLS_LOSS": "hinge"},
    "softmax": SOFTMAX,
    "softmax, alpha per class": SOFTMAX | ALPHA_PER_CLASS,
    "OHEM": {NODE + "EXAMPLE_SELECTION": "ohem", NODE + "OHEM_BATCH_SIZE": 16},
    "OHEM 1:3": {NODE + "EXAMPLE_SELECTION": "ohem_1_3"},
    "OHEM over decoded boxes of the batch": {},
}
# What only a LazyConfig chooses.
OHEM_OF_BATCH = HardExampleSelection(nms_over="boxes", scope="batch", normalizer="foreground")
SELECTIONS = {"OHEM over decoded boxes of the batch": OHEM_OF_BATCH}
ALPHAS = [0.1, 0.5, 0.9]
LOSSES = {
    "focal": SigmoidFocalLoss(num_classes=3, alpha=ALPHAS, gamma=1.5),
    "reference": SigmoidFocalLoss(num_classes=3, backend="reference"),
    "FL*": SigmoidFocalLossStar(num_classes=3, beta=0.5),
    "hinge": HingeLoss(num_classes=3, alpha=ALPHAS),
    "softmax": SoftmaxFocalLoss(num_classes=3, alpha=ALPHAS),
}
losses = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def build(choice, profile="paper"):
    overrides = GN_R18 | {"MODEL.DEVICE": "cpu", "MODEL.RETINANET.NUM_CLASSES": 4} | choice
    opts = [x for item in overrides.items() for x in item]
    torch.manual_seed(0)
    return build_model(load_yaml(str(CONFIGS / f"Base-FocalRetinaNet-{profile}.yaml"), opts))


def build_named(name, profile="paper"):
    model = build(CHOICES[name], profile)
    model.loss.example_selection = SELECTIONS.get(name, model.loss.example_selection)
    return model


def step(model, objects=(3, 0)):
    """Return the losses of a batch, and the gradients."""
    losses, gradients = losses_and_gradients(model, tiny_batch(objects, (64, 96)))
    return losses, list(gradients.values())


def head_outputs(loss, num_anchors=40):
    """Return logits for a loss of three classes, and labels, of two images."""
    num_logits = 4 if isinstance(loss, SoftmaxFocalLoss) else 3
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(2, 2 * num_logits, 4, num_anchors // 8, generator=generator)]
    return logits, torch.randint(-1, 4, (2, num_anchors), generator=generator)


@pytest.mark.parametrize("profile", ["paper", "detectron1", "detectron2"])
@pytest.mark.parametrize("name", CHOICES)
def test_each_choice_trains_and_detects_in_every_profile(name, profile):
    model = build_named(name, profile)
    losses, gradients = step(model)
    assert losses["loss_cls"] > 0
    assert losses["loss_cls"].dtype == torch.float32 and losses["loss_cls"].dim() == 0
    assert all(g is not None and g.isfinite().all() for g in gradients)
    model.postprocessor.score_thresh = 0.0
    detections = model.eval()(tiny_batch([0], (64, 96)))[0]["instances"]
    assert len(detections) > 0
    assert ((detections.scores >= 0) & (detections.scores <= 1)).all()


@pytest.mark.parametrize("name", CHOICES)
def test_a_batch_without_objects_has_finite_losses(name):
    losses, gradients = step(build_named(name), objects=(0, 0))
    assert all(x.isfinite().all() for x in [*losses.values(), *gradients])


@losses
def test_the_sum_of_the_anchors_losses_is_the_loss(loss):
    logits, labels = head_outputs(loss)
    anchors = loss.anchor_losses(logits, labels)
    assert anchors.shape == labels.shape
    assert (anchors[labels < 0] == 0).all()
    for normalizer in (torch.tensor(2.0), torch.tensor([2.0, 2.0])):
        found = loss(logits, labels, normalizer)
        torch.testing.assert_close(found, anchors.sum() / 2, rtol=1e-5, atol=0)


@losses
def test_logits_of_bfloat16_under_autocast_are_computed_in_float32(loss):
    logits, labels = head_outputs(loss)
    rounded = [x.bfloat16() for x in logits]
    expected = [x.float() for x in rounded]
    with torch.autocast("cpu", torch.bfloat16):
        total = loss(rounded, labels, torch.tensor(2.0))
        anchors = loss.anchor_losses(rounded, labels)
    assert total.dtype == anchors.dtype == torch.float32
    torch.testing.assert_close(total, loss(expected, labels, torch.tensor(2.0)), rtol=1e-5, atol=0)
    torch.testing.assert_close(anchors, loss.anchor_losses(expected, labels), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("loss_class", [SigmoidFocalLoss, HingeLoss, SoftmaxFocalLoss])
def test_alpha_per_class_that_is_equal_for_all_is_alpha(loss_class):
    single = loss_class(num_classes=3, alpha=0.3)
    per_class = loss_class(num_classes=3, alpha=[0.3] * 3)
    arguments = *head_outputs(single), torch.ones(())
    torch.testing.assert_close(single(*arguments), per_class(*arguments))


@pytest.mark.parametrize("num_classes", [1, 4, 1203])
def test_the_softmax_head_starts_with_the_prior_and_scores_are_softmax_probabilities(num_classes):
    model = build(SOFTMAX | {"MODEL.RETINANET.NUM_CLASSES": num_classes})
    biases = model.head.cls_score.bias.view(9, num_classes + 1)
    assert torch.allclose(biases.softmax(1)[:, :-1].sum(1), torch.tensor(0.01))
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 9 * (num_classes + 1), 1, 1, generator=generator) * 4
    model.postprocessor.score_thresh_last_level, model.postprocessor.nms_thresh = 0.0, 1.0
    anchors = model.anchor_generator([torch.zeros(1, 1, 1, 1)] * 5)[:1]
    (found,) = model.postprocessor(anchors, [logits], [torch.zeros(1, 36, 1, 1)], [(64, 64)])
    expected = logits.view(9, num_classes + 1).softmax(1)[:, :-1].flatten().sort().values
    torch.testing.assert_close(found.scores, expected.flip(0)[:100])


def test_ohem_leaves_only_the_kept_anchors_in_the_loss():
    cls_loss, select = LOSSES["focal"], HardExampleSelection(batch_size=16, nms_thresh=1.0)
    logits, labels = head_outputs(cls_loss)
    losses = cls_loss.anchor_losses(logits, labels)
    selected = select(losses, torch.rand(2, 40, 4), labels, labels == 0)
    assert (selected >= 0).sum(1).tolist() == [16, 16]
    kept = selected >= 0
    assert torch.equal(selected[kept], labels[kept])
    for n in range(2):
        assert losses[n][kept[n]].min() >= losses[n][~kept[n] & (labels[n] >= 0)].max()


def test_scope_batch_shares_the_examples_among_the_images():
    losses = torch.cat([torch.full((1, 40), 1.0), torch.full((1, 40), 2.0)])
    corners = torch.arange(40.0).view(1, 40, 1) * 10
    boxes = torch.cat([corners, corners, corners + 5, corners + 5], dim=2).expand(2, -1, -1)
    labels, is_foreground = torch.zeros(2, 40, dtype=torch.int64), torch.zeros(2, 40).bool()
    kept = {}
    for scope in ("image", "batch"):
        select = HardExampleSelection(batch_size=16, scope=scope)
        kept[scope] = (select(losses, boxes, labels, is_foreground) >= 0).sum(1).tolist()
    assert kept == {"image": [16, 16], "batch": [0, 32]}


def test_the_divisor_of_ohem_is_the_chosen_one():
    losses = {}
    for divisor in ("examples", "foreground"):
        model = build(CHOICES["OHEM"])
        model.loss.example_selection.normalizer = divisor
        losses[divisor] = step(model, objects=(0, 0))[0]["loss_cls"]
    # 32 examples are kept of two images; at least one foreground anchor an image, N times.
    torch.testing.assert_close(losses["examples"] * 32, losses["foreground"] * 2)


@pytest.mark.parametrize("loss_class", [type(loss) for loss in LOSSES.values()])
def test_a_lazy_config_names_the_loss_and_the_selection(loss_class):
    node = LazyConfig.load(str(CONFIGS / "common/models/focal_retinanet.py")).model
    node.loss.cls_loss = L(loss_class)(num_classes="${...num_classes}")
    if loss_class is not SigmoidFocalLossStar:
        node.loss.cls_loss.alpha = [0.25] * 80
    node.loss.example_selection = L(HardExampleSelection)(batch_size=64, one_to_three=True)
    loss = instantiate(node).loss
    assert type(loss.cls_loss) is loss_class and loss.cls_loss.num_classes == 80
    assert loss.example_selection.batch_size == 64
