"""Traced by Detectron2's own means, the models hold for any other picture."""

import io

import pytest
import torch
from detectron2.export import TracingAdapter, scripting_with_instances
from detectron2.structures import Boxes, ImageList
from detectron2.utils.testing import assert_instances_allclose
from helpers.small_models import tiny_model
from modeling.test_proposals import build as proposal_generator

from focal_retina.errors import UserError
from focal_retina.modeling.anchors import OctaveAnchorGenerator

# Tracers warn of checks of shapes.
pytestmark = pytest.mark.filterwarnings("ignore")
TRACED = [(64, 96), (110, 70)]
OTHERS = [(40, 72), (131, 65), (97, 200), (33, 33), (160, 96), (150, 180), (70, 220), (65, 97)]
TINY = {
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.FPN.NORM": "",
    "MODEL.RETINANET.NORM": "",
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": 60,
    "MODEL.RETINANET.SCORE_THRESH_TEST": 0.1,
    "TEST.DETECTIONS_PER_IMAGE": 50,
}
SETTINGS = {
    "torch": {"BACKEND": "torch"},
    "reference": {"BACKEND": "reference", "CHANNELS_LAST": False, "CPU_ACCELERATION": False},
    "auto, clipped, padded": {"CLIP_BEFORE_NMS": True, "SIZE_DIVISIBILITY": 64},
    "softmax": {"CLS_LOSS": "softmax_focal", "SCORE_THRESH_TEST_LAST_LEVEL": 0.0},
}


def model_of(settings):
    """Return a model whose scores and boxes differ between anchors."""
    model = tiny_model(TINY, **SETTINGS[settings]).eval()
    for name, weight in model.head.named_parameters():
        if name.endswith("weight"):
            torch.nn.init.normal_(weight, std=0.1)
    torch.nn.init.constant_(model.head.cls_score.bias, -1.5)
    return model


def picture(height, width):
    generator = torch.Generator().manual_seed(1000 * height + width)
    return torch.rand(3, height, width, generator=generator) * 255


def detect(model, image):
    return model([{"image": image}])[0]["instances"]


def traced(model, example, infer):
    """Return the function that a file of Detectron2's export holds."""
    adapter = TracingAdapter(model, example, infer)
    file = io.BytesIO()
    with torch.no_grad():
        torch.jit.save(torch.jit.trace(adapter, adapter.flattened_inputs), file)
    file.seek(0)
    run = torch.jit.load(file)
    return lambda *inputs: adapter.outputs_schema(run(*inputs))


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("size", TRACED)
def test_a_traced_model_detects_in_pictures_of_other_sizes_what_the_model_does(size, settings):
    model = model_of(settings)
    run = traced(model, picture(*size), detect)
    counts = set()
    for other in OTHERS:
        with torch.no_grad():
            expected = detect(model, picture(*other))
            found = run(picture(*other))
        assert_instances_allclose(found, expected, size_as_tensor=True)
        counts.add(len(expected))
    assert len(counts) > 2


def test_it_holds_where_nothing_is_found_and_where_little_was_found_when_traced():
    model = model_of("torch")
    blank = model.preprocessor.pixel_mean.expand(3, 64, 64).contiguous()
    torch.nn.init.constant_(model.head.cls_score.bias, -2.6)  # below the threshold
    with torch.no_grad():
        few, many = len(detect(model, blank)), len(detect(model, picture(160, 128)))
    assert few == 0 < many
    for example, other in ((blank, picture(160, 128)), (picture(160, 128), blank)):
        found = traced(model, example, detect)(other)
        with torch.no_grad():
            expected = detect(model, other)
        assert len(found.scores) == len(expected)
        assert torch.allclose(found.pred_boxes.tensor, expected.pred_boxes.tensor, atol=1e-3)


def test_a_traced_first_stage_proposes_in_pictures_of_other_sizes_what_it_does():
    generator = proposal_generator("FocalProposalGenerator", ("MODEL.RPN.PRE_NMS_TOPK_TEST", 100))
    generator.eval()

    def propose(generator, image):
        images = ImageList.from_tensors([image], 64)
        strides = dict(zip(generator.head_in_features, (4, 8, 16, 32, 64), strict=True))
        features = {f: torch.nn.functional.avg_pool2d(images.tensor, s) for f, s in strides.items()}
        return generator(images, features)[0][0]

    run = traced(generator, torch.randn(8, 200, 250), propose)
    for size in ((40, 40), (180, 100), (96, 250)):
        image = torch.randn(8, *size)
        with torch.no_grad():
            expected = propose(generator, image)
        assert_instances_allclose(run(image), expected, size_as_tensor=True)


PARTS = {
    "FocalRetinaNet": lambda: tiny_model(TINY),
    "FocalProposalGenerator": lambda: proposal_generator("FocalProposalGenerator"),
    "FocalRetinaHead": lambda: torch.nn.ModuleList([tiny_model(TINY).head]),
    "OctaveAnchorGenerator": lambda: OctaveAnchorGenerator(base_sizes=[32], strides=[8]),
}


@pytest.mark.parametrize("name", PARTS)
def test_what_cannot_be_scripted_says_how_to_write_a_file(name):
    fields = {"pred_boxes": Boxes, "scores": torch.Tensor}
    with pytest.raises(UserError, match=f"{name} cannot be scripted; .*focal_retina.tools.export"):
        scripting_with_instances(PARTS[name]().eval(), fields)
