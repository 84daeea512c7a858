"""Predictor: the evaluation's detections, from pictures of every kind."""

import io

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import build_detection_test_loader
from helpers.tiny_jobs import catalogs_restored, write_random_weights
from PIL import Image

from focal_retina.errors import ImageError
from focal_retina.evaluation.evaluate import evaluation_mode
from focal_retina.inference.predictor import Predictor, read_picture

# Config -> its key of the weights, its options, and how the evaluation loads its images.
YAML_OPTS = "MODEL.RETINANET.SCORE_THRESH_TEST 0.009 TEST.DETECTIONS_PER_IMAGE 5"
LAZY_OPTS = "model.postprocessor.score_thresh=0.0 model.postprocessor.max_detections=5"
CONFIGS = {
    "tiny.yaml": ("MODEL.WEIGHTS", YAML_OPTS, lambda x: build_detection_test_loader(x, "tiny_val")),
    "tiny.py": ("train.init_checkpoint", LAZY_OPTS, lambda x: instantiate(x.dataloader.test)),
}


@pytest.fixture(scope="module", params=CONFIGS)
def config(request):
    return request.param


@pytest.fixture(scope="module")
def predictor(jobs, config):
    """A predictor of random weights, all of whose candidates count."""
    weights = write_random_weights(jobs / config)
    with catalogs_restored():
        yield Predictor(str(jobs / config), weights, CONFIGS[config][1].split())


def gradient(height=40, width=60, channels=3):
    """Return an image whose every pixel differs from its mirror's."""
    ramp = np.linspace(0, 255, height * width).reshape(height, width, 1)
    return (ramp * np.linspace(0.5, 1, channels)).astype(np.uint8)


def test_a_picture_s_detections_are_the_evaluation_s(predictor, config):
    inputs = next(iter(CONFIGS[config][2](predictor.cfg)))
    with torch.no_grad(), evaluation_mode(predictor.model) as model:
        expected = model(inputs)[0]["instances"]
    found = predictor([inputs[0]["file_name"]])[0]
    assert 1 < len(expected) <= 5
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(found.scores, expected.scores)


def test_names_and_ids_of_classes_are_the_dataset_s(predictor):
    assert len(predictor.class_names) == len(predictor.category_ids) > 1
    assert not any(name.isdigit() for name in predictor.class_names)
    assert min(predictor.category_ids) == 1


def test_images_of_different_sizes_make_a_batch_and_none_an_empty_list(predictor):
    sizes = [(40, 60), (50, 30)]
    assert [x.image_size for x in predictor([gradient(*size) for size in sizes])] == sizes
    assert predictor([]) == []


@pytest.mark.parametrize("image", [gradient().astype(float), gradient()[:, :, 0], gradient()[:0]])
def test_an_array_that_is_no_rgb_image_is_refused(predictor, image):
    with pytest.raises(ValueError, match=r"\(H, W, 3\), uint8, RGB"):
        predictor([image])


def test_no_weights_is_an_error_that_names_the_key(jobs, config):
    with pytest.raises(ValueError, match=CONFIGS[config][0]):
        Predictor(str(jobs / config))


EXIF = Image.Exif()
EXIF[0x0112] = 6  # turn clockwise
GREY = gradient(channels=1)[:, :, 0]
RGB_OF_GREY = np.stack([GREY] * 3, axis=2)


@pytest.mark.parametrize(
    ("pixels", "options", "expected"),
    [
        (gradient(), {"exif": EXIF}, np.rot90(gradient(), -1)),
        (GREY, {}, RGB_OF_GREY),
        (GREY.astype(np.uint16) * 257, {}, RGB_OF_GREY),
        (gradient(channels=4), {}, gradient(channels=4)[:, :, :3]),
    ],
    ids=["turned", "grey", "16-bit grey", "transparent"],
)
def test_pictures_become_upright_rgb_of_8_bits(tmp_path, pixels, options, expected):
    Image.fromarray(pixels).save(tmp_path / "a.png", **options)
    assert np.array_equal(read_picture(tmp_path / "a.png"), expected)


def cut_jpeg():
    buffer = io.BytesIO()
    Image.fromarray(gradient(400, 400)).save(buffer, "JPEG")
    return buffer.getvalue()[: buffer.tell() // 2]


@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n broken", cut_jpeg()], ids=range(4)
)
def test_a_broken_picture_is_named(tmp_path, content):
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(ImageError, match="broken.png cannot be read"):
        read_picture(tmp_path / "broken.png")
