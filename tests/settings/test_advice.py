"""Settings that are likely mistakes are told from those that are not."""

import pytest
from detectron2.config import get_cfg

from focal_retina.modeling.backbones import PixelFormat
from focal_retina.settings import advice


def advice_on(lr, batch_size):
    return advice.learning_rate("SOLVER.BASE_LR", lr, "SOLVER.IMS_PER_BATCH", batch_size)


@pytest.mark.parametrize("lr, batch_size", [(0.01, 16), (0.005, 16), (0.02, 16), (0.00125, 2)])
def test_a_learning_rate_within_a_factor_of_two_of_the_linear_rule_is_fine(lr, batch_size):
    assert advice_on(lr, batch_size) is None


@pytest.mark.parametrize("lr, batch_size, fitting", [(0.01, 2, "0.00125"), (0.001, 16, "0.01")])
def test_the_advice_on_a_learning_rate_names_the_value_to_set(lr, batch_size, fitting):
    assert advice_on(lr, batch_size).endswith(f"set SOLVER.BASE_LR to {fitting}")


def ignored_keys(*opts, architecture="RetinaNet"):
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", architecture, *opts])
    return advice.ignored_keys(cfg)


CHANGED = ("MODEL.ROI_HEADS.NUM_CLASSES", 3, "MODEL.RPN.NMS_THRESH", 0.6)


def test_keys_of_two_stage_models_come_with_their_counterparts():
    assert ignored_keys("MODEL.RETINANET.NUM_CLASSES", 3) is None
    changed = [*CHANGED, "MODEL.RPN.LOSS_WEIGHT", 2.0]
    ignored, counterparts = ignored_keys(*changed).split(": set ")
    assert all(key in ignored for key in changed[::2])
    assert "MODEL.RETINANET.NUM_CLASSES" in counterparts
    assert "MODEL.RETINANET.NMS_THRESH_TEST" in counterparts
    assert "LOSS_WEIGHT" not in counterparts


def test_a_two_stage_model_may_change_its_keys():
    assert ignored_keys(*CHANGED, architecture="GeneralizedRCNN") is None


BGR, RGB = [103.530, 116.280, 123.675], [123.675, 116.280, 103.530]
ONE, STD, STD_RGB = [1.0] * 3, [57.375, 57.120, 58.395], [58.395, 57.120, 57.375]


@pytest.mark.parametrize(
    "weights, right",
    [
        ("detectron2://ImageNetPretrained/MSRA/R-50.pkl", (BGR, ONE, "BGR")),
        ("catalog://ImageNetPretrained/FAIR/R-50-GN", (BGR, ONE, "BGR")),
        ("detectron2://ImageNetPretrained/FAIR/X-101-32x8d.pkl", (BGR, STD, "BGR")),
        ("https://x.org/pycls/dds_baselines/1/RegNetX-4.0GF_dds_8gpu.pyth", (BGR, STD, "BGR")),
        ("detectron2://ImageNetPretrained/torchvision/R-50.pkl", (RGB, STD_RGB, "RGB")),
    ],
)
def test_the_advice_on_pixels_names_what_known_weights_were_trained_on(weights, right):
    assert advice.pixels_of_weights(weights, PixelFormat(*right)) is None
    formats = [(m, s, o) for m in (BGR, RGB) for s in (ONE, STD, STD_RGB) for o in ("BGR", "RGB")]
    wrong = [PixelFormat(*x) for x in formats if x != right]
    assert len(wrong) == 11
    for found in wrong:
        sentence = advice.pixels_of_weights(weights, found)
        assert weights in sentence
        for key, value in zip(("PIXEL_MEAN", "PIXEL_STD", "FORMAT"), right, strict=True):
            assert f"{key}) to {value}" in sentence


def test_there_is_no_advice_on_pixels_of_unknown_or_no_weights():
    for weights in ("", "my_model.pth"):
        assert advice.pixels_of_weights(weights, PixelFormat(RGB, ONE, "BGR")) is None
    # Caffe's mean, as the authors' code rounds it.
    caffe = PixelFormat([102.9801, 115.9465, 122.7717], ONE, "BGR")
    assert advice.pixels_of_weights("ImageNetPretrained/MSRA/R-50.pkl", caffe) is None
