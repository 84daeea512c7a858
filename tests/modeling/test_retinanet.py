"""FocalRetinaNet: what each setting changes, empty and broken inputs, what it logs."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage
from helpers.batches import GN_R18, detectron2_retinanet_config, random_batch

SMALL = {**GN_R18, "MODEL.META_ARCHITECTURE": "FocalRetinaNet", "MODEL.RETINANET.NUM_CLASSES": 4}


def small_model(overrides=None):
    torch.manual_seed(0)
    return build_model(detectron2_retinanet_config({**SMALL, **(overrides or {})}))


def losses_of(model, batch):
    with EventStorage(0):
        return model.train()(batch)


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("kind", ["image", "gpu", "all_gpus", "ema"])
def test_a_batch_without_objects_trains_on_background_alone(kind, backend):
    model = small_model(
        {"MODEL.FOCAL_RETINA.NORMALIZER": kind, "MODEL.FOCAL_RETINA.BACKEND": backend}
    )
    losses = losses_of(model, random_batch([(64, 64), (96, 64)], [0, 0], num_classes=4))
    assert losses["loss_cls"] > 0
    assert losses["loss_box_reg"] == 0
    sum(losses.values()).backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    # Every parameter takes part: DistributedDataParallel waits for all of them.
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)


def test_normalizer_image_averages_the_losses_of_single_images():
    model = small_model({"MODEL.FOCAL_RETINA.NORMALIZER": "image"})
    batch = random_batch([(64, 64)] * 3, [3, 0, 1], num_classes=4)
    together = losses_of(model, batch)
    alone = [losses_of(model, [x]) for x in batch]
    for name, loss in together.items():
        assert torch.allclose(loss, sum(x[name] for x in alone) / 3, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("alpha", [0.0, 0.001, 0.999, 1.0])
def test_extreme_alpha_and_logits_keep_losses_and_gradients_finite(alpha, gamma):
    model = small_model(
        {
            "MODEL.RETINANET.FOCAL_LOSS_ALPHA": alpha,
            "MODEL.RETINANET.FOCAL_LOSS_GAMMA": gamma,
        }
    )
    for bias in (-100.0, 100.0):
        torch.nn.init.constant_(model.head.cls_score.bias, bias)
        losses = losses_of(model, random_batch([(64, 64)], [2], num_classes=4))
        model.zero_grad()
        sum(losses.values()).backward()
        gradients = [p.grad for p in model.parameters() if p.requires_grad]
        assert all(torch.isfinite(g).all() for g in gradients)


def test_bfloat16_autocast_gives_fp32_losses_and_detections_near_those_of_fp32():
    model = small_model()
    batch = random_batch([(128, 128)], [4], num_classes=4)
    exact = losses_of(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = losses_of(model, batch)
        detections = model.eval()(batch)[0]["instances"]
    for name in exact:
        assert rounded[name].dtype == torch.float32
        assert torch.allclose(rounded[name], exact[name], rtol=0.05)
    assert detections.scores.dtype == detections.pred_boxes.tensor.dtype == torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_pixels_reach_the_loss(value):
    batch = random_batch([(64, 64)], [2], num_classes=4)
    batch[0]["image"] = batch[0]["image"].float()
    batch[0]["image"][:, 10, 10] = value
    losses = losses_of(small_model(), batch)
    assert not torch.isfinite(losses["loss_cls"])


@pytest.mark.parametrize(("source", "channels"), [("c5", 512), ("p5", 64)])
def test_p6_comes_from_the_chosen_feature(source, channels):
    model = small_model(
        {
            "MODEL.FOCAL_RETINA.P6_FROM": source,
            "MODEL.BACKBONE.NAME": "build_focal_retina_resnet_fpn_backbone",
        }
    )
    assert model.backbone.top_block.p6.in_channels == channels


def test_an_unknown_source_of_p6_names_the_known_ones():
    with pytest.raises(ValueError, match="'c5' or 'p5'"):
        small_model(
            {
                "MODEL.FOCAL_RETINA.P6_FROM": "p4",
                "MODEL.BACKBONE.NAME": "build_focal_retina_resnet_fpn_backbone",
            }
        )


@pytest.mark.parametrize(("divisibility", "side"), [(0, 96), (128, 128)])
def test_images_are_padded_to_the_chosen_multiple(divisibility, side):
    model = small_model({"MODEL.FOCAL_RETINA.SIZE_DIVISIBILITY": divisibility})
    images = model.preprocessor(random_batch([(65, 70)], [0]), model.backbone)
    assert images.tensor.shape[-2:] == (side, side)
    assert images.image_sizes == [(65, 70)]


@pytest.mark.parametrize(("last_level", "found"), [(0.0, True), (0.9, False), (None, False)])
def test_the_last_level_has_its_own_score_threshold(last_level, found):
    # An untrained model scores everything near .01.
    model = small_model({"MODEL.RETINANET.SCORE_THRESH_TEST": 0.9})
    model.postprocessor.score_thresh_last_level = last_level
    detections = model.eval()(random_batch([(128, 128)], [0]))[0]["instances"]
    assert (len(detections) > 0) == found


def test_unmatched_objects_are_counted_and_warned_about_once_by_file_name(caplog):
    model = small_model({"MODEL.FOCAL_RETINA.LOW_QUALITY_MATCHES": "none"})
    batch = random_batch([(64, 64), (64, 64)], [1, 2], num_classes=4)
    batch[1]["file_name"] = "crowded.jpg"
    batch[0]["instances"].gt_boxes = Boxes(torch.tensor([[0.0, 0.0, 32.0, 32.0]]))
    batch[1]["instances"].gt_boxes = Boxes(torch.tensor([[1.0, 1.0, 3.0, 60.0]] * 2))
    with EventStorage(0) as storage:
        model.train()(batch)
        model(batch)
    assert storage.latest()["num_unmatched_objects"][0] == 1.0
    assert storage.latest()["num_pos_anchors"][0] > 0
    warnings = [r.getMessage() for r in caplog.records if "No anchor is matched" in r.getMessage()]
    assert len(warnings) == 1
    assert "2 object(s) of image crowded.jpg" in warnings[0]


def test_pictures_come_each_vis_period_and_do_not_pile_up():
    model = small_model({"VIS_PERIOD": 2})
    batch = random_batch([(64, 64)], [2], num_classes=4)
    with EventStorage(0) as storage:
        for _ in range(40):
            model.train()(batch)
            storage.step()
            assert len(storage._vis_data) <= model.monitor.MAX_PENDING_IMAGES
    name, picture, _ = storage._vis_data[-1]
    assert picture.shape[0] == 3
    assert picture.shape[1] > 2 * picture.shape[2]
    assert "matched anchors" in name
    assert [step for _, _, step in storage._vis_data][-1] == 38


@pytest.mark.parametrize(
    ("overrides", "culprit"),
    [
        ({"MODEL.RETINANET.BBOX_REG_LOSS_TYPE": "l2"}, "BBOX_REG_LOSS_TYPE"),
        ({"MODEL.RETINANET.FOCAL_LOSS_GAMMA": -1.0}, "gamma"),
        ({"MODEL.FOCAL_RETINA.NORMALIZER": "world"}, "NORMALIZER"),
        ({"MODEL.FOCAL_RETINA.LOW_QUALITY_MATCHES": "best"}, "low_quality_matches"),
        ({"MODEL.FOCAL_RETINA.BACKEND": "cuda"}, "backend 'cuda'"),
    ],
)
def test_impossible_settings_are_refused_when_the_model_is_built(overrides, culprit):
    with pytest.raises(ValueError, match=culprit):
        small_model(overrides)
