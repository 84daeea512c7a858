"""The first stage proposes and labels as Detectron2's RPN does, and differs in its loss."""

from operator import attrgetter
from pathlib import Path

import pytest
import torch
from detectron2 import model_zoo
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling.proposal_generator import RPN, build_proposal_generator
from detectron2.structures import Boxes, ImageList, Instances
from helpers.batches import random_batch, random_objects

from focal_retina import FocalProposalGenerator, FocalRetinaHead
from focal_retina.errors import UserError
from focal_retina.modeling.proposal_postprocess import ProposalPostprocessor
from focal_retina.ops import reference

LEVELS = ("p2", "p3", "p4", "p5", "p6")
SIZES = [(96, 128), (128, 80)]


def faster_rcnn_config(generator, overrides=()):
    """Return Detectron2's Faster R-CNN config with the two keys changed."""
    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"))
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = generator
    cfg.MODEL.RPN.HEAD_NAME = "FocalRetinaHead"
    cfg.MODEL.RETINANET.NUM_CONVS = 1
    cfg.merge_from_list(list(overrides))
    return cfg


def build(generator, overrides=(), seed=0):
    torch.manual_seed(seed)
    shapes = {f: ShapeSpec(channels=8, stride=4 * 2**i) for i, f in enumerate(LEVELS)}
    generator = build_proposal_generator(faster_rcnn_config(generator, overrides), shapes)
    # Logits and deltas with a spread: proposals that differ, and boxes that move.
    for layer in (generator.rpn_head.cls_score, generator.rpn_head.bbox_pred):
        torch.nn.init.normal_(layer.weight, std=0.3)
    return generator


def batch(num_objects=(3, 2)):
    """Return images, features and objects."""
    generator = torch.Generator().manual_seed(1)
    images = ImageList(torch.zeros(2, 3, 128, 128), SIZES)
    features = {
        f: torch.randn(2, 8, 32 // 2**i, 32 // 2**i, generator=generator)
        for i, f in enumerate(LEVELS)
    }
    objects = [
        random_objects(size, n, 80, generator) for size, n in zip(SIZES, num_objects, strict=True)
    ]
    return images, features, objects


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 40, "MODEL.RPN.PRE_NMS_TOPK_TEST", 30),
        ("MODEL.RPN.POST_NMS_TOPK_TRAIN", 12, "MODEL.RPN.POST_NMS_TOPK_TEST", 9),
        ("MODEL.RPN.NMS_THRESH", 0.3, "MODEL.PROPOSAL_GENERATOR.MIN_SIZE", 20),
        ("MODEL.RPN.IN_FEATURES", ["p3", "p5"], "MODEL.ANCHOR_GENERATOR.SIZES", [[8, 24]]),
        ("MODEL.RPN.BBOX_REG_WEIGHTS", (10.0, 10.0, 5.0, 5.0)),
    ],
)
def test_proposals_are_those_of_detectron2s_rpn_with_our_head(overrides, training, event_storage):
    ours = build("FocalProposalGenerator", overrides)
    theirs = build("RPN", overrides)
    assert type(theirs) is RPN and type(theirs.rpn_head) is FocalRetinaHead
    images, features, objects = batch()
    expected = theirs.train(training)(images, features, objects)[0]
    proposals = ours.train(training)(images, features, objects)[0]
    for found, wanted in zip(proposals, expected, strict=True):
        assert len(wanted) > 0
        # With a graph, Detectron2's own pictures of proposals would raise.
        assert not found.objectness_logits.requires_grad
        assert not found.proposal_boxes.tensor.requires_grad
        torch.testing.assert_close(found.objectness_logits, wanted.objectness_logits)
        torch.testing.assert_close(found.proposal_boxes.tensor, wanted.proposal_boxes.tensor)


@pytest.mark.parametrize("num_objects", [(3, 2), (1, 0), (0, 0)])
@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("MODEL.RPN.IOU_THRESHOLDS", [0.2, 0.4]),
        ("MODEL.RPN.IOU_THRESHOLDS", [0.5], "MODEL.RPN.IOU_LABELS", [0, 1]),
        ("MODEL.RPN.BOUNDARY_THRESH", 8),
    ],
)
def test_labels_are_those_of_detectron2s_rpn_before_it_samples(overrides, num_objects):
    images, features, objects = batch(num_objects)
    all_of_them = ("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 10**6, "MODEL.RPN.POSITIVE_FRACTION", 1.0)
    theirs = build("RPN", overrides + all_of_them)
    ours = build("FocalProposalGenerator", overrides)
    features = [features[f] for f in ours.head_in_features]
    anchors = ours.anchor_generator(features)
    wanted, boxes = theirs.label_and_sample_anchors(anchors, objects)
    found = ours.assign(anchors, [x.shape[-2:] for x in features], objects)
    wanted = torch.stack(wanted)
    torch.testing.assert_close(found.gt_labels == 1, wanted == 0)
    torch.testing.assert_close(found.gt_labels == -1, wanted == -1)
    foreground = wanted == 1
    torch.testing.assert_close(found.num_foreground, foreground.sum(1))
    pairs = torch.stack([found.image_idxs, found.anchor_idxs], dim=1)
    torch.testing.assert_close(pairs, foreground.nonzero())
    torch.testing.assert_close(found.gt_boxes, torch.stack(boxes)[foreground].reshape(-1, 4))


@pytest.mark.parametrize("num_objects", [(3, 2), (1, 0), (0, 0)])
def test_the_classification_loss_is_the_focal_loss_of_one_class_over_all_anchors(num_objects):
    generator = build("FocalProposalGenerator").train()
    images, features, objects = batch(num_objects)
    losses = generator(images, features, objects)[1]
    features = [features[f] for f in LEVELS]
    logits, _ = generator.rpn_head(features)
    anchors = generator.anchor_generator(features)
    labels = generator.assign(anchors, [x.shape[-2:] for x in logits], objects).gt_labels
    p, is_object = reference.flatten_logits(logits, 1)[..., 0].sigmoid(), labels == 0
    p_t = torch.where(is_object, p, 1 - p)
    alpha_t = torch.where(is_object, 0.25, 0.75)
    wanted = (-alpha_t * (1 - p_t) ** 2 * p_t.log())[labels >= 0].sum()
    wanted = wanted / generator.loss.normalizer.foreground_ema
    assert losses["loss_rpn_cls"].item() == pytest.approx(wanted.item(), rel=1e-4)
    assert (losses["loss_rpn_loc"].item() > 0) == (sum(num_objects) > 0)


@pytest.mark.parametrize(
    ("key", "factors"), [("LOSS_WEIGHT", (2.5, 2.5)), ("BBOX_REG_LOSS_WEIGHT", (1, 2.5))]
)
def test_loss_weights_scale_the_losses(key, factors):
    plain = build("FocalProposalGenerator").train()(*batch())[1]
    scaled = build("FocalProposalGenerator", (f"MODEL.RPN.{key}", 2.5)).train()(*batch())[1]
    for name, factor in zip(("loss_rpn_cls", "loss_rpn_loc"), factors, strict=True):
        torch.testing.assert_close(scaled[name], plain[name] * factor)


def test_training_reaches_every_parameter_even_without_objects():
    generator = build("FocalProposalGenerator").train()
    losses = generator(*batch((0, 0)))[1]
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in generator.parameters())


def test_infinite_logits_are_reported_as_detectron2s_rpn_does(event_storage):
    generator = build("FocalProposalGenerator").train()
    torch.nn.init.constant_(generator.rpn_head.cls_score.bias, float("nan"))
    with pytest.raises(FloatingPointError, match="diverged"):
        generator(*batch())


def test_proposals_stay_finite_and_ordered_at_extreme_logits():
    generator = build("FocalProposalGenerator").eval()
    torch.nn.init.normal_(generator.rpn_head.cls_score.weight, std=1e4)
    for proposals in generator(*batch()[:2])[0]:
        logits = proposals.objectness_logits
        assert logits.isfinite().all() and proposals.proposal_boxes.tensor.isfinite().all()
        assert (logits.diff() <= 0).all() and logits.abs().max() > 100


def test_checkpoints_of_detectron2s_rpn_with_our_head_load_unconverted():
    ours, theirs = build("FocalProposalGenerator"), build("RPN", seed=1)
    left = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert left.missing_keys == ["loss.normalizer.foreground_ema"]
    assert left.unexpected_keys == []


def test_regions_to_ignore_are_in_no_loss(event_storage):
    generator = build("FocalProposalGenerator")
    images, features, objects = batch((3, 0))
    objects[0].gt_classes = torch.tensor([-1, 7, -1])
    _, losses = generator(images, features, objects)
    assert losses["loss_rpn_cls"].isfinite()
    anchors = generator.anchor_generator(list(features.values()))
    grids = [x.shape[-2:] for x in features.values()]
    assignment = generator.assign(anchors, grids, objects)
    assert {tuple(b) for b in assignment.gt_boxes.tolist()} == {
        tuple(objects[0].gt_boxes.tensor[1].tolist())
    }
    objects[0].gt_classes = torch.tensor([0, 7, 0])
    learned = generator.assign(anchors, grids, objects)
    assert len(learned.anchor_idxs) > len(assignment.anchor_idxs) > 0
    assert (assignment.gt_labels == -1).sum() > (learned.gt_labels == -1).sum()
    with pytest.raises(UserError, match="Instance annotations are missing"):
        generator(images, features, None)


def test_the_caller_s_objects_keep_their_classes():
    generator = build("FocalProposalGenerator").train()
    images, features, objects = batch()
    classes = [x.gt_classes.clone() for x in objects]
    generator(images, features, objects)
    torch.testing.assert_close([x.gt_classes for x in objects], classes)


def test_it_is_built_from_parts_without_a_config():
    one_level = ("MODEL.RPN.IN_FEATURES", ["p3"], "MODEL.ANCHOR_GENERATOR.SIZES", [[64]])
    source = build("FocalProposalGenerator", one_level)
    generator = FocalProposalGenerator(
        in_features=["p3"],
        head=source.rpn_head,
        anchor_generator=source.anchor_generator,
        assigner=source.assigner,
        loss=source.loss,
        postprocessor=ProposalPostprocessor(
            box2box_transform=source.loss.box2box_transform,
            pre_nms_topk=(20, 10),
            post_nms_topk=(20, 10),
        ),
    ).train()
    images, features, _ = batch()
    one = [Instances(s, gt_boxes=Boxes(torch.tensor([[8.0, 8, 72, 72]]))) for s in SIZES]
    proposals, losses = generator(images, features, one)
    assert [0 < len(x) <= 20 for x in proposals] == [True, True]
    assert set(losses) == {"loss_rpn_cls", "loss_rpn_loc"}


def test_the_lazy_node_is_the_first_stage_of_the_config_and_trains_a_step():
    file = Path(__file__).parents[2] / "configs/common/models/focal_proposal_generator.py"
    model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
    model.proposal_generator = LazyConfig.load(str(file)).proposal_generator
    model.backbone.bottom_up.stages.norm = "BN"
    model.backbone.bottom_up.stem.norm, model.backbone.bottom_up.freeze_at = "BN", 0
    model.backbone.out_channels = 16
    node = model.proposal_generator
    node.head.input_shape, node.head.conv_dims = [ShapeSpec(channels=16)] * 5, [16]
    model.roi_heads = None
    model = instantiate(model)
    ours = model.proposal_generator
    built = build("FocalProposalGenerator", ("MODEL.RETINANET.NUM_CONVS", 4))
    for name in ("assigner", "postprocessor", "loss.cls_loss", "loss.normalizer", "loss"):
        parts = [attrgetter(name)(generator) for generator in (ours, built)]
        plain = [{k: v for k, v in vars(x).items() if k[0] != "_"} for x in parts]
        for settings in plain:
            settings.pop("box2box_transform", None)
        assert plain[0] == plain[1], name
    assert ours.anchor_generator.offset == built.anchor_generator.offset

    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    before = ours.rpn_head.cls_score.weight.clone()
    inputs = random_batch([(64, 96)], [2])
    images = model.preprocess_image(inputs)
    objects = [x["instances"] for x in inputs]
    _, losses = ours.train()(images, model.backbone(images.tensor), objects)
    sum(losses.values()).backward()
    optimizer.step()
    assert not torch.equal(ours.rpn_head.cls_score.weight, before)
