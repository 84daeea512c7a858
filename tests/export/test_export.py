"""Exported files say what FocalRetinaNet says, at any size and batch."""

import sys

import pytest
import torch
from detectron2.structures import Boxes, Instances
from helpers.mounts import files_limited_to
from helpers.small_models import tiny_model
from helpers.tiny_jobs import catalogs_restored, write_jobs, write_random_weights
from PIL import Image

from focal_retina.errors import UserError
from focal_retina.export.formats import EXPORTERS, largest_difference, load_exported
from focal_retina.export.modules import Detections, RawOutputs
from focal_retina.tools.export import main

# Tracers warn of Detectron2's checks of shapes.
pytestmark = pytest.mark.filterwarnings("ignore")
# torch.export takes seconds.
KINDS = ["onnx", "torchscript", pytest.param("torch_export", marks=pytest.mark.slow)]
# In the first P5 is 1x2, P6 and P7 are single pixels.
SIZES = [(1, 32, 64), (3, 256, 160), (2, 192, 288)]
OVERRIDES = {
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.FPN.NORM": "",  # GN refuses maps of one pixel and one channel a group
    "MODEL.RETINANET.NORM": "",
    "MODEL.RETINANET.NUM_CLASSES": 3,
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": 50,
    "MODEL.RETINANET.SCORE_THRESH_TEST": 0.02,
    "TEST.DETECTIONS_PER_IMAGE": 20,
}
TORCHVISION_ANCHORS = {
    "MODEL.ANCHOR_GENERATOR.NAME": "TorchvisionAnchorGenerator",
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
}


def confident_model(overrides=None):
    """Return a model of random weights whose scores and boxes differ between anchors."""
    model = tiny_model(OVERRIDES | (overrides or {})).eval()
    for name, weight in model.head.named_parameters():
        if name.endswith("weight"):
            torch.nn.init.normal_(weight, std=0.05)
    torch.nn.init.constant_(model.head.cls_score.bias, -2.0)
    return model


def noise(count, height, width):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, height, width, generator=generator) * 255


@torch.no_grad()
def models_detections(model, images):
    """Return the model's own detections in the form of ``Detections``."""
    instances = [x["instances"] for x in model([{"image": image} for image in images])]
    image_idxs = torch.repeat_interleave(torch.tensor([len(x) for x in instances]))
    found = Instances.cat([Instances((0, 0), **x.get_fields()) for x in instances])
    return found.pred_boxes.tensor, found.scores, found.pred_classes, image_idxs


def export(module, kind, path):
    """Write a file of the kind; return the function that it holds."""
    for package in ("onnx", "onnxruntime") if kind == "onnx" else ():
        pytest.importorskip(package, reason="focal_retina[export] is not installed")
    with torch.no_grad():
        EXPORTERS[kind](module.eval(), path)
    return load_exported(kind, path)


@pytest.fixture(scope="module", params=KINDS)
def exported(request, tmp_path_factory):
    """A model that detects nothing in a grey image, and the function that its file holds."""
    model = confident_model()
    torch.nn.init.constant_(model.head.cls_score.bias, -4.5)  # below the threshold
    path = tmp_path_factory.mktemp(request.param) / "model.pt2"
    return model, export(Detections(model), request.param, path)


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"MODEL.FOCAL_RETINA.CLIP_BEFORE_NMS": True},
        {"MODEL.FOCAL_RETINA.SCORE_THRESH_TEST_LAST_LEVEL": 0.0},
        {"MODEL.RETINANET.NUM_CLASSES": 1},
        {"MODEL.FOCAL_RETINA.CLS_LOSS": "softmax_focal"},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", SIZES)
def test_the_module_detects_what_the_model_detects(size, overrides):
    model, images = confident_model(overrides), noise(*size)
    expected = models_detections(model, images)
    with torch.no_grad():
        found = Detections(model)(images)
    assert len(expected[0]) > 1
    assert [len(x) for x in found] == [len(x) for x in expected]
    assert largest_difference(expected, found) < 1e-3
    assert torch.equal(found[3], expected[3])
    assert torch.allclose(found[1], expected[1], atol=1e-5)


def test_an_exported_file_detects_what_the_model_detects_at_three_sizes_and_batches(exported):
    model, run = exported
    for images in (noise(*size) for size in SIZES):
        expected = models_detections(model, images)
        assert len(expected[0]) > 1
        assert largest_difference(expected, run(images)) < 1e-2


def test_an_exported_file_gives_empty_outputs_where_there_is_nothing_to_detect(exported):
    model, run = exported
    for count, height, width in SIZES:
        grey = model.preprocessor.pixel_mean.expand(count, 3, height, width).contiguous()
        assert [tuple(x.shape) for x in run(grey)] == [(0, 4), (0,), (0,), (0,)]


def test_an_exported_file_finds_the_one_image_of_a_batch_with_detections(exported):
    model, run = exported
    images = model.preprocessor.pixel_mean.repeat(3, 1, 64, 32)
    images[1] = noise(1, 64, 32)[0]
    assert set(run(images)[3].tolist()) == {1}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_a_model_with_a_background_logit_detects_what_the_model_detects(kind, tmp_path):
    model = confident_model({"MODEL.FOCAL_RETINA.CLS_LOSS": "softmax_focal"})
    run = export(Detections(model), kind, tmp_path / "model.pt2")
    for images in (noise(*size) for size in SIZES):
        expected = models_detections(model, images)
        assert len(expected[0]) > 1
        assert largest_difference(expected, run(images)) < 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_raw_outputs_are_the_head_s_for_every_anchor(kind, tmp_path):
    model = confident_model(TORCHVISION_ANCHORS)
    run = export(RawOutputs(model), kind, tmp_path / "model.pt2")
    for images in (noise(*size) for size in SIZES):
        with torch.no_grad():
            expected = RawOutputs(model)(images)
        assert largest_difference(expected, run(images)) < 1e-3


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"MODEL.ANCHOR_GENERATOR.OFFSET": 0.5},
        TORCHVISION_ANCHORS,
        {**TORCHVISION_ANCHORS, "MODEL.ANCHOR_GENERATOR.NAME": "OctaveAnchorGenerator"},
    ],
    ids=str,
)
def test_anchors_are_the_generator_s_to_the_bit(overrides):
    model, images = confident_model(overrides), noise(1, 96, 160)
    with torch.no_grad():
        expected = model.anchor_generator(model.features(images))
        anchors = RawOutputs(model)(images)[2]
    assert torch.equal(anchors, Boxes.cat(expected).tensor)


def test_the_largest_difference_is_that_of_boxes_scores_or_a_missing_detection():
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 5, 20, 20]])
    scores, classes, image_idxs = torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), torch.zeros(2)
    expected = (boxes, scores, classes, image_idxs)
    reversed_ = tuple(x.flip(0) for x in expected)
    assert largest_difference(expected, reversed_) == 0
    assert largest_difference(expected, (boxes + 0.5, *expected[1:])) == pytest.approx(0.5)
    assert largest_difference(expected, (boxes, scores, classes + 2, image_idxs)) >= 1e6
    empty = tuple(x[:0] for x in expected)
    assert largest_difference(expected, empty) == float("inf")
    assert largest_difference(empty, empty) == 0


@pytest.mark.parametrize(
    ("kind", "missing", "sentence"),
    [
        ("torch_export", None, "must end in .pt2; .*model.onnx does not"),
        ("onnx", "onnx", r"focal_retina\[export\]"),
    ],
)
def test_what_cannot_be_exported_is_explained(kind, missing, sentence, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=sentence):
        EXPORTERS[kind](Detections(confident_model()), tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("flags", "outputs"),
    [([], "boxes, scores, classes, image_idxs"), (["--raw"], "logits, deltas, anchors")],
)
def test_the_tool_writes_the_file_and_ends_with_the_largest_difference(
    flags, outputs, jobs, capsys
):
    weights, file = write_random_weights(jobs / "tiny.yaml"), jobs / "model.ts"
    command = ["--config-file", jobs / "tiny.yaml", "--weights", weights, *flags, "--output", file]
    command += ["--format", "torchscript", "--images", next(jobs.rglob("*.png"))]
    assert main([str(x) for x in command]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.endswith(f"images -> {outputs}")
    assert len(torch.jit.load(str(file))(noise(1, 64, 64))) == len(outputs.split())
    assert last.startswith("largest difference to PyTorch: ")
    assert float(last.split()[-1]) < 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_keeps_the_old_file(kind, tmp_path):
    module, path = RawOutputs(confident_model()), tmp_path / "model.pt2"
    path.write_bytes(b"old")
    with files_limited_to(10_000), pytest.raises(UserError, match=r"model\.pt2 cannot be written"):
        export(module, kind, path)
    assert [(x.name, x.read_bytes()) for x in tmp_path.iterdir()] == [("model.pt2", b"old")]


@pytest.mark.parametrize("name", ["weights.pth", "tiny.yaml", "a.png"])
def test_an_export_does_not_replace_what_it_reads(name, tmp_path, capsys):
    write_jobs(tmp_path)
    weights = write_random_weights(tmp_path / "tiny.yaml")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    before = (tmp_path / name).read_bytes()
    inputs = ["--config-file", tmp_path / "tiny.yaml", "--images", tmp_path / "a.png"]
    options = ["--output", tmp_path / name, "--opts", "MODEL.WEIGHTS", weights]
    with catalogs_restored():
        assert main([str(x) for x in [*inputs, "--format", "torchscript", *options]]) == 2
    assert f"{name} is read here" in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == before
