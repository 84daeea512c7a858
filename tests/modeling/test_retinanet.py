"""FocalRetinaNet: what each setting changes, empty and broken inputs, what it logs."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage
from helpers.batches import random_batch
from helpers.small_models import losses_and_gradients, losses_of, tiny_batch, tiny_model

from focal_retina.detectron2_internals import num_pending_images
from focal_retina.errors import UserError
from focal_retina.modeling import monitor
from focal_retina.modeling.retinanet import FocalRetinaNet


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("kind", ["image", "gpu", "all_gpus", "ema"])
def test_a_batch_without_objects_trains_on_background_alone(kind, backend):
    model = tiny_model(NORMALIZER=kind, BACKEND=backend)
    batch = random_batch([(64, 64), (96, 64)], [0, 0], num_classes=4)
    losses, gradients = losses_and_gradients(model, batch)
    assert losses["loss_cls"] > 0
    assert losses["loss_box_reg"] == 0
    # Every parameter takes part: DistributedDataParallel waits for all of them.
    assert all(g is not None and torch.isfinite(g).all() for g in gradients.values())


def test_normalizer_image_averages_the_losses_of_single_images():
    model, batch = tiny_model(NORMALIZER="image"), tiny_batch([3, 0, 1])
    together = losses_of(model, batch)
    alone = [losses_of(model, [x]) for x in batch]
    for name, loss in together.items():
        assert torch.allclose(loss, sum(x[name] for x in alone) / 3, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("alpha", [0.0, 0.001, 0.999, 1.0])
def test_extreme_alpha_and_logits_keep_losses_and_gradients_finite(alpha, gamma):
    keys = {"FOCAL_LOSS_ALPHA": alpha, "FOCAL_LOSS_GAMMA": gamma}
    model = tiny_model({f"MODEL.RETINANET.{key}": value for key, value in keys.items()})
    for bias in (-100.0, 100.0):
        torch.nn.init.constant_(model.head.cls_score.bias, bias)
        _, gradients = losses_and_gradients(model, tiny_batch([2]))
        assert all(torch.isfinite(g).all() for g in gradients.values())


def test_bfloat16_autocast_gives_fp32_losses_and_detections_near_those_of_fp32():
    model, batch = tiny_model(), tiny_batch([4], (128, 128))
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
    batch = tiny_batch([2])
    batch[0]["image"] = batch[0]["image"].float()
    batch[0]["image"][:, 10, 10] = value
    assert not torch.isfinite(losses_of(tiny_model(), batch)["loss_cls"])


@pytest.mark.parametrize(("divisibility", "side"), [(0, 96), (128, 128)])
def test_images_are_padded_to_the_chosen_multiple(divisibility, side):
    model = tiny_model(SIZE_DIVISIBILITY=divisibility)
    images = model.preprocessor(tiny_batch([0], (65, 70)), model.backbone)
    assert images.tensor.shape[-2:] == (side, side)
    assert images.image_sizes == [(65, 70)]


@pytest.mark.parametrize("accelerated", [True, False])
def test_acceleration_on_a_cpu_is_a_choice_of_its_own(accelerated):
    resnet = {"MODEL.RESNETS.NORM": "FrozenBN"}
    model = tiny_model(resnet, CPU_ACCELERATION=accelerated, CHANNELS_LAST=False)
    called = []  # a layer that is folded into its convolution is not
    model.backbone.bottom_up.stem.conv1.norm.register_forward_hook(lambda *_: called.append(True))
    model.head_outputs(tiny_batch([0]))
    assert called == ([] if accelerated else [True])


@pytest.mark.parametrize(("last_level", "found"), [(0.0, True), (0.9, False), (None, False)])
def test_the_last_level_has_its_own_score_threshold(last_level, found):
    # An untrained model scores everything near .01.
    model = tiny_model({"MODEL.RETINANET.SCORE_THRESH_TEST": 0.9})
    model.postprocessor.score_thresh_last_level = last_level
    detections = model.eval()(tiny_batch([0], (128, 128)))[0]["instances"]
    assert (len(detections) > 0) == found


def test_unmatched_objects_are_counted_and_warned_about_once_by_file_name(caplog):
    model, batch = tiny_model(LOW_QUALITY_MATCHES="none"), tiny_batch([1, 2])
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


def test_a_picture_of_the_first_image_comes_each_vis_period_and_they_do_not_pile_up(monkeypatch):
    batch = random_batch([(64, 64), (96, 32)], [2, 1], num_classes=4)
    drawn, draw = [], monitor._draw_boxes
    monkeypatch.setattr(monitor, "_draw_boxes", lambda *x: drawn.append(x) or draw(*x))
    model, steps = tiny_model({"VIS_PERIOD": 2}).train(), []
    with EventStorage(0) as storage:
        for step in range(20):
            model(batch)
            steps += [step] if drawn[3 * len(steps) :] else []
            storage.step()
            assert num_pending_images(storage) <= model.monitor.MAX_PENDING_IMAGES
    assert steps == list(range(0, 20, 2))
    images, (objects, matched, _) = zip(*drawn[:3], strict=True)
    pixels = batch[0]["image"].permute(1, 2, 0).flip(2)  # RGB
    assert all(np.array_equal(image, pixels) for image in images)
    assert torch.equal(objects.tensor, batch[0]["instances"].gt_boxes.tensor)
    anchors, assignment = model.assign(batch, model.head_outputs(batch))
    of_first = anchors[assignment.anchor_idxs[assignment.image_idxs == 0]].tolist()
    assert len(matched) > 0 and all(x in of_first for x in matched.tensor.tolist())


PARTS = ("backbone", "head", "anchor_generator", "assigner", "loss", "postprocessor")


def test_the_constructor_takes_all_features_of_the_backbone_and_refuses_any_other():
    model = tiny_model()
    parts = {name: getattr(model, name) for name in (*PARTS, "preprocessor", "num_classes")}
    assert FocalRetinaNet(**parts).head_in_features == ["p3", "p4", "p5", "p6", "p7"]
    with pytest.raises(UserError, match="IN_FEATURES.* has p9, but the backbone has p3"):
        FocalRetinaNet(**parts, head_in_features=["p3", "p9"])


def test_training_without_objects_or_with_a_class_above_k_is_one_sentence():
    model = tiny_model()
    with pytest.raises(UserError, match="Instance annotations are missing in training!"):
        losses_of(model, [{"image": torch.zeros(3, 64, 64)}])
    batch = tiny_batch([1, 2])
    batch[1]["instances"].gt_classes = torch.tensor([4, 6])  # K is 4, background
    batch[1]["file_name"] = "owl.jpg"
    with pytest.raises(UserError, match=r"owl\.jpg has an object of class 6; .* classes 0 to 3"):
        losses_of(model, batch)


def test_a_backbone_with_weights_of_five_dimensions_is_laid_out_and_trains():
    class Wide(torch.nn.Conv3d):
        def forward(self, x):
            return super().forward(x[:, :, None])[:, :, 0]

    model = tiny_model()
    model.backbone.bottom_up.stem.conv1 = Wide(3, 64, (1, 7, 7), (1, 2, 2), (0, 3, 3))
    parts = ("backbone", "head", "anchor_generator", "assigner", "loss", "postprocessor")
    arguments = {name: getattr(model, name) for name in (*parts, "preprocessor")}
    model = FocalRetinaNet(
        num_classes=4, head_in_features=["p3", "p4", "p5", "p6", "p7"], **arguments
    )
    assert model.head.cls_score.weight.is_contiguous(memory_format=torch.channels_last)
    _, gradients = losses_and_gradients(model, tiny_batch([2]))
    assert gradients["backbone.bottom_up.stem.conv1.weight"].abs().max() > 0
