"""In the detectron2 profile, losses, gradients, labels and detections are Detectron2's."""

import itertools
from dataclasses import replace

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.meta_arch import retinanet as detectron2_retinanet
from detectron2.structures import Boxes, ImageList
from detectron2.utils.events import EventStorage
from fvcore.nn import sigmoid_focal_loss
from helpers.batches import GN_R18, detectron2_retinanet_config, random_batch
from helpers.small_models import losses_and_gradients

pytestmark = pytest.mark.slow

MODELS = {
    "R-50 FrozenBN": {},
    "R-50 GN": {"MODEL.RESNETS.NORM": "GN", "MODEL.FPN.NORM": "GN", "MODEL.RETINANET.NORM": "GN"},
    "R-18 GN": GN_R18,
    "R-18 FrozenBN": {**GN_R18, "MODEL.RESNETS.NORM": "FrozenBN"},
    "GIoU": {**GN_R18, "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": "giou"},
    "one class": {**GN_R18, "MODEL.RETINANET.NUM_CLASSES": 1},
    "gamma 0": {**GN_R18, "MODEL.RETINANET.FOCAL_LOSS_GAMMA": 0.0},
    "no alpha": {**GN_R18, "MODEL.RETINANET.FOCAL_LOSS_ALPHA": -1.0},
}
BATCHES = {
    "one image": ([(96, 128)], [3]),
    "several sizes": ([(96, 128), (64, 150), (130, 70)], [2, 0, 5]),
    "no objects": ([(96, 128), (64, 64)], [0, 0]),
    "one object": ([(96, 128)], [1]),
}


def build_pair(overrides, backend):
    """Return our model and Detectron2's, with the same random weights."""
    cfg = detectron2_retinanet_config(overrides)
    torch.manual_seed(0)
    theirs = build_model(cfg)
    # Weights large enough for logits, and so gradients, of every size.
    torch.nn.init.normal_(theirs.head.cls_score.weight, std=0.1)
    cfg.MODEL.META_ARCHITECTURE = "FocalRetinaNet"
    cfg.MODEL.FOCAL_RETINA.BACKEND = backend
    # Convolutions would round differently.
    cfg.MODEL.FOCAL_RETINA.CHANNELS_LAST = cfg.MODEL.FOCAL_RETINA.CPU_ACCELERATION = False
    ours = build_model(cfg)
    missing = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert missing.missing_keys == ["loss.normalizer.foreground_ema"]
    assert missing.unexpected_keys == []
    return ours, theirs


@pytest.fixture
def plain_focal_loss(monkeypatch):
    """Let Detectron2 use fvcore's loss as written: torch.jit rounds differently."""
    monkeypatch.setattr(detectron2_retinanet, "sigmoid_focal_loss_jit", sigmoid_focal_loss)


@pytest.mark.parametrize(
    ("model", "batch"),
    [
        *itertools.product(["R-50 FrozenBN", "R-18 GN"], BATCHES),
        *((model, "several sizes") for model in sorted(set(MODELS) - {"R-50 FrozenBN", "R-18 GN"})),
    ],
)
def test_losses_and_every_gradient_are_equal_to_the_bit(model, batch, plain_focal_loss):
    overrides = MODELS[model]
    ours, theirs = build_pair(overrides, "reference")
    batch = random_batch(*BATCHES[batch], overrides.get("MODEL.RETINANET.NUM_CLASSES", 80))
    found, expected = (losses_and_gradients(model, batch) for model in (ours, theirs))
    torch.testing.assert_close(found, expected, atol=0, rtol=0)
    assert ours.loss.normalizer.foreground_ema.item() == theirs.loss_normalizer


def test_regions_to_ignore_and_objects_of_the_background_are_detectron2s(plain_focal_loss):
    ours, theirs = build_pair(GN_R18, "reference")
    batch = random_batch([(96, 128), (64, 150), (130, 70)], [4, 2, 5])
    for inputs, classes in zip(batch, ([-1, 80, 3, 0], [-1, -1], [80, 7, -1, 7, 80]), strict=True):
        inputs["instances"].gt_classes = torch.tensor(classes)
    found, expected = (losses_and_gradients(model, batch) for model in (ours, theirs))
    torch.testing.assert_close(found, expected, atol=0, rtol=0)
    assert ours.loss.normalizer.foreground_ema.item() == theirs.loss_normalizer


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_gradients_agree_with_the_jit_loss_as_it_is(backend):
    ours, theirs = build_pair(GN_R18, backend)
    batch = random_batch(*BATCHES["several sizes"])
    our_losses, our_gradients = losses_and_gradients(ours, batch)
    their_losses, their_gradients = losses_and_gradients(theirs, batch)
    torch.testing.assert_close(our_losses, their_losses, rtol=1e-5, atol=0)
    for name, theirs_i in their_gradients.items():
        largest_error = (our_gradients[name] - theirs_i).abs().max()
        assert largest_error <= 5e-6 * theirs_i.abs().max(), name


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_labels_and_matched_boxes_are_equal(backend):
    ours, theirs = build_pair(GN_R18, backend)
    batch = random_batch([(256, 320)] * 8, [0, 1, 2, 5, 10, 20, 40, 80])
    objects = [x["instances"] for x in batch]
    features = [torch.zeros(1, 1, 256 // s, 320 // s) for s in (8, 16, 32, 64, 128)]
    anchors = theirs.anchor_generator(features)
    assignment = ours.assigner(Boxes.cat(anchors).tensor, objects)
    labels, boxes = theirs.label_anchors(anchors, objects)
    assert torch.equal(assignment.gt_labels, torch.stack(labels))
    foreground = assignment.image_idxs, assignment.anchor_idxs
    assert torch.equal(assignment.gt_boxes, torch.stack(boxes)[foreground])


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("model", ["R-50 FrozenBN", "R-18 GN"])
def test_detections_are_equal(model, backend):
    ours, theirs = build_pair(MODELS[model], backend)
    batch = random_batch(*BATCHES["several sizes"])
    batch[0].update(height=192, width=300)
    with torch.no_grad():
        pairs = zip(ours.eval()(batch), theirs.eval()(batch), strict=True)
    for found, wanted in ((a["instances"], b["instances"]) for a, b in pairs):
        assert len(wanted) > 0
        assert found.image_size == wanted.image_size
        assert torch.equal(found.pred_classes, wanted.pred_classes)
        assert torch.equal(found.pred_boxes.tensor, wanted.pred_boxes.tensor)
        assert torch.allclose(found.scores, wanted.scores, rtol=2e-7, atol=0)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_twenty_iterations_give_the_same_loss_curve(backend, plain_focal_loss):
    ours, theirs = build_pair({**GN_R18, "MODEL.RETINANET.NUM_CLASSES": 5}, backend)
    for model in (ours, theirs):  # RetinaNet's own start, from which rounding does not grow
        torch.manual_seed(1)
        torch.nn.init.normal_(model.head.cls_score.weight, std=0.01)
    curves = ([], [])
    for model, curve in zip((ours, theirs), curves, strict=True):
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
        for step in range(20):
            batch = random_batch([(64, 96), (96, 64)], [step % 4, 2], num_classes=5, seed=step)
            curve.append(sum(losses_and_gradients(model, batch)[0].values()).item())
            optimizer.step()
    torch.testing.assert_close(*curves, rtol=1e-5, atol=0)


def test_an_object_without_overlap_makes_no_anchor_foreground_unlike_detectron2():
    ours, theirs = build_pair(GN_R18, "reference")
    batch = random_batch([(64, 64)], [1])
    batch[0]["instances"].gt_boxes = Boxes(torch.tensor([[5000.0, 5000.0, 5010.0, 5010.0]]))
    anchors = theirs.anchor_generator([torch.zeros(1, 1, 8, 8)] * 5)
    objects = [batch[0]["instances"]]
    assert (theirs.label_anchors(anchors, objects)[0][0] < 80).all()
    for kind in ("none", "detectron1", "detectron2"):
        ours.assigner.rule = replace(ours.assigner.rule, low_quality_matches=kind)
        assignment = ours.assigner(Boxes.cat(anchors).tensor, objects)
        assert (assignment.gt_labels == 80).all()
        assert assignment.num_unmatched.tolist() == [1]


NAMES = """pixel_mean pixel_std input_format vis_period test_score_thresh test_topk_candidates
test_nms_thresh max_detections_per_image focal_loss_alpha focal_loss_gamma smooth_l1_beta
box_reg_loss_type num_classes head_in_features device""".split()


def test_what_projects_read_from_detectron2s_model_has_its_names_and_values():
    ours, theirs = build_pair({**GN_R18, "TEST.DETECTIONS_PER_IMAGE": 17}, "reference")
    for name in NAMES:
        found, expected = getattr(ours, name), getattr(theirs, name)
        assert found.equal(expected) if isinstance(found, torch.Tensor) else found == expected, name
    for part in ("box2box_transform", "anchor_matcher"):
        found, expected = (vars(getattr(model, part)) for model in (ours, theirs))
        assert found == expected


def test_what_projects_call_on_detectron2s_model_gives_what_it_gives(plain_focal_loss):
    ours, theirs = build_pair(GN_R18, "reference")
    batch = random_batch([(96, 128), (64, 150)], [3, 1])
    objects = [x["instances"] for x in batch]
    results = []
    for model in (ours, theirs):
        images = model.preprocess_image(batch)
        features = model.backbone(images.tensor)
        features = [features[name] for name in model.head_in_features]
        predictions = model.head(features)
        anchors = model.anchor_generator(features)
        labels, boxes = model.label_anchors(anchors, objects)
        foreground = [(x >= 0) & (x < 80) for x in labels]
        boxes = [x[kept] for x, kept in zip(boxes, foreground, strict=True)]
        with torch.no_grad(), EventStorage(0):
            losses = model.forward_training(images, features, predictions, objects)
            found = model.eval().forward_inference(images, features, predictions)
        found = [(x.pred_boxes.tensor, x.pred_classes, x.scores) for x in found]
        results.append((labels, boxes, losses, found))
    torch.testing.assert_close(*results, rtol=2e-7, atol=0)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_no_detection_of_predictions_that_are_not_finite_is_finite(value):
    ours, _ = build_pair(GN_R18, "torch")
    features = [torch.full((1, 64, 64 // 2**i, 64 // 2**i), value) for i in range(5)]
    predictions = [[torch.full_like(x, value) for x in kind] for kind in ours.head(features)]
    images = ImageList(torch.full((1, 3, 512, 512), value), [(510, 510)])
    (found,) = ours.eval().forward_inference(images, features, predictions)
    assert not found.pred_boxes.tensor.isfinite().any()


def test_a_threshold_set_by_detectron2s_name_is_the_models():
    ours, _ = build_pair({**GN_R18, "MODEL.RETINANET.SCORE_THRESH_TEST": 0.9}, "torch")
    batch = random_batch([(96, 128)], [0])
    ours.test_score_thresh, ours.max_detections_per_image = 0.0, 7
    assert len(ours.eval()(batch)[0]["instances"]) == 7
