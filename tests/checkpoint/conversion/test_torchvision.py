"""torchvision's RetinaNet, converted, is torchvision's RetinaNet; and so it is on the way back."""

import pytest
import torch
from helpers import foreign_models as foreign
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList

from focal_retina.checkpoint.conversion.common import COCO_THINGS
from focal_retina.checkpoint.conversion.to_torchvision import to_torchvision
from focal_retina.checkpoint.conversion.torchvision import convert
from focal_retina.errors import UserError
from focal_retina.modeling.anchors import TorchvisionAnchorGenerator
from focal_retina.settings.yaml_config import load_yaml
from focal_retina.tools.convert_checkpoint import main

pytestmark = pytest.mark.slow

BUILDERS = ("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2")
STRIDES = [8, 16, 32, 64, 128]


def torchvision_model(builder, **kwargs):
    """Build a model with scores above the threshold, and none for classes without category."""
    torch.manual_seed(0)
    model = getattr(detection, builder)(
        weights=None, weights_backbone=None, min_size=foreign.SHORT_SIDE, max_size=1000, **kwargs
    )
    foreign.randomise(model)
    logits = model.head.classification_head.cls_logits
    torch.nn.init.normal_(logits.weight, std=0.03)
    classes = model.head.classification_head.num_classes
    real = list(COCO_THINGS) if classes == 91 else range(1, classes)
    unreal = [c for c in range(classes) if c not in real]
    logits.bias.data.normal_(-4, 1).view(9, classes)[:, unreal] = -20
    model.head.regression_head.bbox_reg.bias.data.normal_(0, 0.2)
    return model


@torch.no_grad()
def torchvision_outputs(model, images):
    batch, _ = model.transform([x / 255 for x in images])
    found = model.head(list(model.backbone(batch.tensors).values()))
    return [foreign.by_size(found[k]) for k in ("cls_logits", "bbox_regression")]


def assert_same_detections(first, second):
    """Compare in any order, which rounding decides between equal scores.

    Detectron2 drops the boxes in the padding, of which clipping leaves nothing.
    """
    first, second = (
        {k: v[(x["boxes"][:, 2:] > x["boxes"][:, :2]).all(1)] for k, v in x.items()}
        for x in (first, second)
    )
    assert len(first["boxes"]) == len(second["boxes"]) > 20
    same = first["labels"][:, None] == second["labels"]
    same &= (first["scores"][:, None] - second["scores"]).abs() < 1e-5
    same &= (first["boxes"][:, None] - second["boxes"]).abs().amax(2) < 1e-2
    assert same.any(0).all()
    assert same.any(1).all()


@pytest.fixture(scope="module", params=BUILDERS)
def pair(request, tmp_path_factory):
    theirs = torchvision_model(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    cfg, ours = foreign.converted(theirs.state_dict(), folder)
    return theirs, ours, folder


@pytest.mark.parametrize("images", foreign.IMAGES)
@torch.no_grad()
def test_logits_deltas_and_detections_are_torchvisions(pair, images):
    theirs, ours, _ = pair
    images, ids = foreign.IMAGES[images](), torch.tensor(list(COCO_THINGS))
    logits, deltas = torchvision_outputs(theirs, images)
    our_logits, our_deltas = (foreign.by_anchor(x) for x in foreign.outputs(ours, images))
    assert logits.std() > 0.1
    assert (our_logits - logits[..., ids]).abs().max() <= 1e-4
    assert (our_deltas - deltas).abs().max() <= 1e-4

    found, expected = ours([{"image": x} for x in images]), theirs([x / 255 for x in images])
    for output, detections in zip(found, expected, strict=True):
        x = output["instances"]
        labels, boxes = ids[x.pred_classes], x.pred_boxes.tensor
        converted = {"boxes": boxes, "scores": x.scores, "labels": labels}
        assert_same_detections(converted, detections)


@pytest.mark.parametrize("size", [(800, 1344), (160, 224), (128, 256), (32, 32)])
def test_anchors_are_torchvisions_where_strides_do_not_divide_the_image(size):
    features = [torch.zeros(1, 1, -(-size[0] // s), -(-size[1] // s)) for s in STRIDES]
    theirs = detection.retinanet._default_anchorgen()(
        ImageList(torch.zeros(1, 3, *size), [size]), features
    )
    ours = TorchvisionAnchorGenerator(base_sizes=[[s * 4] for s in STRIDES], strides=STRIDES)
    ours = torch.cat([boxes.tensor for boxes in ours(features)])
    assert torch.equal(ours, foreign.by_size(theirs[0][None])[0])


def test_back_in_torchvision_the_weights_give_the_same_detections(pair, capsys):
    theirs, _, folder = pair
    target = folder / "back.pth"
    assert main([str(folder / "target.pth"), str(target), "--to", "torchvision"]) == 0
    call = capsys.readouterr().out.split("detection.")[1]
    again = eval(f"detection.{call}", {"detection": detection})
    again.load_state_dict(torch.load(target, weights_only=True))
    again.transform.min_size = (foreign.SHORT_SIDE,)
    images = [x / 255 for x in foreign.synthetic_images()]
    with torch.no_grad():
        for back, first in zip(again.eval()(images), theirs(images), strict=True):
            assert_same_detections(back, first)


@pytest.mark.parametrize("prefix", ["", "model.", "module.model."])
@pytest.mark.parametrize("background, count", [(True, 2), (True, 3), (False, 1), (False, 2)])
def test_logits_are_torchvisions_for_any_number_of_classes(background, count, prefix, tmp_path):
    theirs = torchvision_model(BUILDERS[0], num_classes=count)
    state = {f"{prefix}{name}": value for name, value in theirs.state_dict().items()}
    option = ("--background", "yes" if background else "no")
    cfg, ours = foreign.converted({"state_dict": state}, tmp_path, *option)
    images = foreign.synthetic_images()
    logits, deltas = torchvision_outputs(theirs, images)
    our_logits, our_deltas = (foreign.by_anchor(x) for x in foreign.outputs(ours, images))
    assert cfg.MODEL.RETINANET.NUM_CLASSES == count - background
    assert (our_logits - logits[..., int(background) :]).abs().max() <= 1e-4
    assert (our_deltas - deltas).abs().max() <= 1e-4


@pytest.mark.parametrize(
    "count, background, sentence",
    [
        (3, None, "it has 3 classes: say with --background yes or no"),
        (1, None, "it has 1 classes: say with --background yes or no"),
        (1, True, "its only class is background"),
    ],
)
def test_what_the_first_class_is_is_asked_for_where_it_is_not_known(count, background, sentence):
    state = torchvision_model(BUILDERS[0], num_classes=count).state_dict()
    with pytest.raises(UserError, match=sentence):
        convert(state, {}, background=background)


def test_91_classes_without_background_are_not_those_of_coco():
    state = torchvision_model(BUILDERS[0], num_classes=91).state_dict()
    conversion = convert(state, {}, background=False)
    assert len(conversion.weights["head.cls_score.bias"]) == 9 * 91
    assert conversion.class_names is None


class DeepForest(torch.nn.Module):
    """DeepForest 2's Lightning module, as far as its checkpoints tell: no background class."""

    def __init__(self, labels):
        super().__init__()
        torch.manual_seed(1)
        backbone = detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None).backbone
        sizes = {"min_size": foreign.SHORT_SIDE, "max_size": 1000}
        model = detection.RetinaNet(backbone, num_classes=len(labels), **sizes)
        self.model, self.labels = foreign.randomise(model), labels
        head = model.head.classification_head.cls_logits
        torch.nn.init.normal_(head.weight, std=0.03)
        head.bias.data.normal_(-3, 1)

    def checkpoint(self):
        return {"epoch": 1, "state_dict": self.state_dict(), "label_dict": self.labels}


@pytest.mark.parametrize("labels", [{"Tree": 0}, {"Dead": 1, "Alive": 0}])
@torch.no_grad()
def test_deepforests_detections_and_labels_are_kept(labels, tmp_path):
    theirs = DeepForest(labels)
    _, ours = foreign.converted(theirs.checkpoint(), tmp_path, "--background", "no")
    images = foreign.synthetic_images()
    found, expected = ours([{"image": x} for x in images]), theirs.model([x / 255 for x in images])
    for output, detections in zip(found, expected, strict=True):
        x = output["instances"]
        boxes = x.pred_boxes.tensor
        converted = {"boxes": boxes, "scores": x.scores, "labels": x.pred_classes}
        assert_same_detections(converted, detections)
    names = torch.load(tmp_path / "target.pth")["class_names"]
    assert names == sorted(labels, key=labels.get)


def test_the_norm_epsilon_of_coco_v1_is_moved_into_the_variance():
    state = torchvision_model(BUILDERS[0], num_classes=2).state_dict()
    weights = convert(state, {}, norm_eps=0.0, background=True).weights
    variance = weights["backbone.bottom_up.stem.conv1.norm.running_var"]
    torch.testing.assert_close(variance + 1e-5, state["backbone.body.bn1.running_var"])


@pytest.fixture
def converted_files(pair):
    """Return weights and config of our model."""
    _, _, folder = pair
    weights = torch.load(folder / "target.pth", weights_only=True)["model"]
    return weights, load_yaml(str(folder / "target.yaml"))


def test_channel_order_and_box_weights_are_settled_on_the_way_back(converted_files):
    weights, cfg = converted_files
    expected, call = to_torchvision(weights, cfg, None)
    stem = "backbone.bottom_up.stem.conv1.weight"
    changed = {**weights, stem: weights[stem].flip(1)}
    for name in ("head.bbox_pred.weight", "head.bbox_pred.bias"):
        changed[name] = 4 * weights[name]
    cfg.INPUT.FORMAT = "BGR"
    cfg.MODEL.PIXEL_MEAN = cfg.MODEL.PIXEL_MEAN[::-1]
    cfg.MODEL.PIXEL_STD = cfg.MODEL.PIXEL_STD[::-1]
    cfg.MODEL.RETINANET.BBOX_REG_WEIGHTS = (4.0, 4.0, 4.0, 4.0)
    found, found_call = to_torchvision(changed, cfg, None)
    assert found_call == call
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("pair", BUILDERS[1:], indirect=True)
def test_a_trained_bias_before_a_normalisation_has_no_place_in_torchvision(converted_files):
    weights, cfg = converted_files
    weights["head.cls_subnet.9.bias"] = torch.ones(256)
    with pytest.raises(UserError, match="no place for head.cls_subnet.9.bias"):
        to_torchvision(weights, cfg, None)


def test_what_torchvision_cannot_do_is_refused_by_its_key(pair, capsys):
    _, _, folder = pair
    config = folder / "strided.yaml"
    config.write_text("{_BASE_: target.yaml, MODEL: {RESNETS: {STRIDE_IN_1X1: true}}}")
    arguments = [str(folder / "target.pth"), str(folder / "x.pth"), "--to", "torchvision"]
    assert main([*arguments, "--config-file", str(config)]) == 2
    assert "MODEL.RESNETS.STRIDE_IN_1X1 is True" in capsys.readouterr().err
