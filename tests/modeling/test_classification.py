"""Every loss and selection is chosen by key and by LazyConfig, and works in every profile."""

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall as L  # noqa: N817
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from helpers.batches import GN_R18, random_batch

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
CHOICES = {
    "CE": {"MODEL.RETINANET.FOCAL_LOSS_GAMMA": 0.0, "MODEL.RETINANET.FOCAL_LOSS_ALPHA": -1.0},
    "balanced CE": {"MODEL.RETINANET.FOCAL_LOSS_GAMMA": 0.0},
    "focal": {},
    "alpha per class": {NODE + "CLASS_ALPHA": [0.1, 0.2, 0.3, 0.4]},
    "FL*": {NODE + "CLS_LOSS": "focal_star", NODE + "FOCAL_STAR_BETA": 0.5},
    "hinge": {NODE + "CLS_LOSS": "hinge"},
    "softmax": {NODE + "CLS_LOSS": "softmax_focal"},
    "softmax, alpha per class": {
        NODE + "CLS_LOSS": "softmax_focal",
        NODE + "CLASS_ALPHA": [0.1, 0.2, 0.3, 0.4],
    },
    "OHEM": {NODE + "EXAMPLE_SELECTION": "ohem", NODE + "OHEM_BATCH_SIZE": 16},
    "OHEM 1:3 over decoded boxes of the batch": {
        NODE + "EXAMPLE_SELECTION": "ohem_1_3",
        NODE + "OHEM_NMS_OVER": "boxes",
        NODE + "OHEM_SCOPE": "batch",
        NODE + "OHEM_NORMALIZER": "foreground",
    },
}


def build(choice, profile="paper"):
    overrides = {
        **GN_R18,
        "MODEL.DEVICE": "cpu",
        "MODEL.RETINANET.NUM_CLASSES": 4,
        **choice,
    }
    opts = [x for item in overrides.items() for x in item]
    torch.manual_seed(0)
    return build_model(load_yaml(str(CONFIGS / f"Base-FocalRetinaNet-{profile}.yaml"), opts))


def step(model, objects=(3, 0)):
    """Return the losses of a batch, and the gradients."""
    with EventStorage(0):
        losses = model.train()(random_batch([(64, 96)] * 2, list(objects), num_classes=4))
    sum(losses.values()).backward()
    return losses, [p.grad for p in model.parameters() if p.requires_grad]


@pytest.mark.parametrize("profile", ["paper", "detectron1", "detectron2"])
@pytest.mark.parametrize("name", CHOICES)
def test_each_choice_trains_and_detects_in_every_profile(name, profile):
    model = build(CHOICES[name], profile)
    losses, gradients = step(model)
    assert losses["loss_cls"] > 0
    assert losses["loss_cls"].dtype == torch.float32 and losses["loss_cls"].dim() == 0
    assert all(g is not None and g.isfinite().all() for g in gradients)
    model.postprocessor.score_thresh = 0.0
    detections = model.eval()(random_batch([(64, 96)], [0], num_classes=4))[0]["instances"]
    assert len(detections) > 0
    assert ((detections.scores >= 0) & (detections.scores <= 1)).all()


@pytest.mark.parametrize("name", CHOICES)
def test_a_batch_without_objects_has_finite_losses(name):
    losses, gradients = step(build(CHOICES[name]), objects=(0, 0))
    assert all(x.isfinite() for x in losses.values())
    assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_alpha_per_class_that_is_equal_for_all_is_alpha(gamma):
    gamma = {"MODEL.RETINANET.FOCAL_LOSS_GAMMA": gamma}
    single, _ = step(build({**gamma, "MODEL.RETINANET.FOCAL_LOSS_ALPHA": 0.3}))
    per_class, _ = step(build({**gamma, NODE + "CLASS_ALPHA": [0.3] * 4}))
    torch.testing.assert_close(single, per_class)


def test_the_sum_of_the_anchors_losses_is_the_loss():
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(2, 2 * 3, 4, 5, generator=generator)]
    labels = torch.randint(-1, 4, (2, 40), generator=generator)
    for loss in (
        SigmoidFocalLoss(num_classes=3, alpha=[0.1, 0.5, 0.9], gamma=1.5),
        SigmoidFocalLossStar(num_classes=3),
        HingeLoss(num_classes=3),
    ):
        anchors = loss.anchor_losses(logits, labels)
        assert (anchors[labels < 0] == 0).all()
        torch.testing.assert_close(
            loss(logits, labels, torch.tensor(2.0)), anchors.sum() / 2, rtol=1e-5, atol=0
        )


@pytest.mark.parametrize("num_classes", [1, 4, 1203])
def test_the_softmax_head_starts_with_the_prior_and_scores_are_softmax_probabilities(num_classes):
    choice = {**CHOICES["softmax"], "MODEL.RETINANET.NUM_CLASSES": num_classes}
    model = build(choice)
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
    choice = {**CHOICES["OHEM"], NODE + "OHEM_NMS_THRESH": 1.0}
    loss = build(choice).loss
    logits = [torch.randn(2, 9 * 4, 2, 2, generator=torch.Generator().manual_seed(0))]
    labels = torch.randint(-1, 5, (2, 36), generator=torch.Generator().manual_seed(1))
    losses = loss.cls_loss.anchor_losses(logits, labels)
    selected = loss.example_selection(losses, torch.rand(2, 36, 4), labels, labels == 0)
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


@pytest.mark.parametrize("divisor", ["examples", "foreground"])
def test_the_divisor_of_ohem_is_the_chosen_one(divisor):
    choice = {**CHOICES["OHEM"], NODE + "OHEM_NORMALIZER": divisor}
    loss, _ = step(build(choice), objects=(0, 0))
    other = {"examples": 32, "foreground": 2}  # kept of two images; at least one an image, N times
    choice[NODE + "OHEM_NORMALIZER"] = next(d for d in other if d != divisor)
    expected = step(build(choice), objects=(0, 0))[0]["loss_cls"]
    expected *= other[choice[NODE + "OHEM_NORMALIZER"]] / other[divisor]
    torch.testing.assert_close(loss["loss_cls"], expected)


@pytest.mark.parametrize(
    "call",
    [
        L(SigmoidFocalLoss)(num_classes="${...num_classes}", alpha=[0.25] * 80, gamma=0.0),
        L(SigmoidFocalLossStar)(num_classes="${...num_classes}", beta=0.0),
        L(HingeLoss)(num_classes="${...num_classes}"),
        L(SoftmaxFocalLoss)(num_classes="${...num_classes}"),
    ],
)
def test_a_lazy_config_names_the_loss_and_the_selection(call):
    node = LazyConfig.load(str(CONFIGS / "common/models/focal_retinanet.py")).model
    node.loss.cls_loss = call
    node.loss.example_selection = L(HardExampleSelection)(batch_size=64, one_to_three=True)
    loss = instantiate(node).loss
    assert type(loss.cls_loss) is call._target_ and loss.cls_loss.num_classes == 80
    assert loss.example_selection.batch_size == 64


@pytest.mark.parametrize(
    ("choice", "culprit"),
    [
        ({NODE + "CLS_LOSS": "focal_loss"}, "CLS_LOSS is 'focal_loss'"),
        ({NODE + "CLASS_ALPHA": [0.1]}, "CLASS_ALPHA.*1 numbers for 4"),
        ({NODE + "CLASS_ALPHA": [2.0] * 4}, "CLASS_ALPHA"),
        ({NODE + "CLS_LOSS": "hinge", NODE + "HINGE_THRESHOLD": 0.0}, "HINGE_THRESHOLD"),
        (
            {NODE + "CLS_LOSS": "focal_star", "MODEL.RETINANET.FOCAL_LOSS_GAMMA": 0.0},
            "FOCAL_LOSS_GAMMA",
        ),
        ({NODE + "EXAMPLE_SELECTION": "hard"}, "EXAMPLE_SELECTION is 'hard'"),
        ({**CHOICES["OHEM"], NODE + "OHEM_NMS_OVER": "rois"}, "OHEM_NMS_OVER"),
        ({**CHOICES["OHEM"], NODE + "OHEM_BATCH_SIZE": 0}, "OHEM_BATCH_SIZE"),
    ],
)
def test_impossible_choices_are_refused(choice, culprit):
    with pytest.raises(ValueError, match=culprit):
        build(choice)
