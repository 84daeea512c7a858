"""Large convolutions of a model go by Winograd's algorithm, the others do not, and all agree."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from detectron2.export import TracingAdapter
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from helpers.batches import GN_R18, detectron2_retinanet_config, random_batch

from focal_retina.acceleration import convolution
from focal_retina.acceleration.convolution import WinogradConvolutions

LARGE, SMALL = (48, 52), (24, 28)
conv = partial(F.conv2d, padding=1)


def feature_map(size, channels=256):
    x = torch.randn(1, channels, *size)
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def random_weight(out_channels=256, in_channels=256, side=3):
    return (torch.randn(out_channels, in_channels, side, side) * 0.02).requires_grad_()


def is_winograd(y):
    return type(y.grad_fn).__name__ == "WinogradConvolutionBackward"


@pytest.fixture
def large():
    """Input and weight."""
    torch.manual_seed(0)
    return feature_map(LARGE), random_weight()


def test_a_large_convolution_is_winograds_within_the_context_only(large):
    with WinogradConvolutions():
        assert is_winograd(conv(*large))
        assert is_winograd(F.conv2d(*large, None, (1, 1), (1, 1), (1, 1), 1))
    assert not is_winograd(conv(*large))
    with pytest.raises(RuntimeError, match="expected input"), WinogradConvolutions():
        conv(large[0], random_weight(in_channels=300))
    assert not is_winograd(conv(*large))


def test_outputs_may_be_changed_in_place(large):
    with WinogradConvolutions():
        gradient = torch.autograd.grad(conv(*large).tanh_().sum(), large[0])[0]
    expected = torch.autograd.grad(conv(*large).tanh().sum(), large[0])[0]
    assert (gradient - expected).norm() <= 1e-3 * expected.norm()


@pytest.mark.parametrize(
    "changes",
    [
        {"stride": 2},
        {"padding": 0},
        {"padding": "same"},
        {"padding": 2, "dilation": 2},
        {"groups": 2, "weight": random_weight(256, 128)},
        {"weight": random_weight(side=1)},
        {"weight": random_weight(out_channels=36)},
        {"input": feature_map(SMALL)},
        {"input": torch.randn(1, 256, *LARGE)},
        {"input": feature_map(LARGE).double(), "weight": random_weight().double()},
        {"input": torch.zeros(0, 256, *LARGE)},
        {"input": torch.randn(256, 256, 256)},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_other_convolutions_are_direct(large, changes):
    kwargs = {"input": large[0], "weight": large[1], **changes}
    with WinogradConvolutions():
        y = conv(**kwargs)
    assert not is_winograd(y)
    assert torch.equal(y, conv(**kwargs))


def test_autocast_is_left_alone(large):
    with WinogradConvolutions(), torch.autocast("cpu", torch.bfloat16):
        assert conv(*large).dtype == torch.bfloat16


def test_small_levels_share_the_kernel_of_a_large_one(large):
    weight = large[1]
    levels = [feature_map(size) for size in (LARGE, SMALL, (5, 6))]
    with WinogradConvolutions():
        outputs = [conv(x, weight) for x in levels]
    assert [is_winograd(y) for y in outputs] == [True, True, False]
    for x, y in zip(levels, outputs, strict=True):
        assert torch.allclose(y, conv(x, weight), atol=1e-4)


def test_weights_that_take_the_place_of_others_in_memory_are_not_mistaken_for_them(large):
    x, weight = large
    others = [
        lambda: weight * 1,
        lambda: weight * 2,
        lambda: weight,
        lambda: weight.transpose(0, 1),
    ]
    with WinogradConvolutions(), torch.no_grad():
        outputs = [conv(x, other()) for other in others]
    for other, y in zip(others, outputs, strict=True):
        assert torch.allclose(y, conv(x, other()), atol=1e-4)


def model_and_batch():
    overrides = {"MODEL.META_ARCHITECTURE": "FocalRetinaNet", "MODEL.FPN.OUT_CHANNELS": 256}
    torch.manual_seed(0)
    model = build_model(detectron2_retinanet_config({**GN_R18, **overrides}))
    return model, random_batch([(384, 416), (360, 400)], [4, 0], num_classes=80)


def without_winograd(monkeypatch):
    monkeypatch.setattr(convolution, "_MIN_CHANNELS", 10**6)


def losses_and_gradients():
    model, batch = model_and_batch()
    with EventStorage(0):
        losses = model(batch)
    sum(losses.values()).backward()
    return losses, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_losses_and_gradients_of_a_model_are_those_of_direct_convolutions(monkeypatch):
    # Rounding opens or closes a few ReLUs at 0: a smooth function instead, in all modules.
    monkeypatch.setattr(F, "relu", lambda x, inplace=False: F.softplus(x))
    monkeypatch.setattr(F, "relu_", F.softplus)
    calls = []
    spied = convolution.winograd.weight_gradient
    monkeypatch.setattr(
        convolution.winograd, "weight_gradient", lambda *args: calls.append(1) or spied(*args)
    )
    losses, gradients = losses_and_gradients()
    assert len(calls) >= 9  # of three convolutions of the head at three levels, and one of FPN
    for name, gradient in losses_and_gradients()[1].items():
        assert torch.equal(gradients[name], gradient), name

    without_winograd(monkeypatch)
    calls.clear()
    direct_losses, direct_gradients = losses_and_gradients()
    assert not calls
    assert losses["loss_cls"].item() == pytest.approx(direct_losses["loss_cls"].item(), rel=1e-5)
    for name, gradient in direct_gradients.items():
        assert (gradients[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


def test_a_traced_model_has_direct_convolutions(tmp_path):
    model, batch = model_and_batch()
    adapter = TracingAdapter(model.eval(), [{"image": batch[0]["image"]}])
    with torch.no_grad():
        traced = torch.jit.trace(adapter, adapter.flattened_inputs)
    traced.save(tmp_path / "model.ts")
    assert "aten::_convolution" in str(traced.inlined_graph)
    assert "Winograd" not in str(traced.inlined_graph)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_detections_of_a_model_are_those_of_direct_convolutions(mode, monkeypatch):
    model, batch = model_and_batch()
    model.eval().postprocessor.score_thresh = 0.0
    with mode():
        found = [x["instances"] for x in model(batch)]
        without_winograd(monkeypatch)
        wanted = [x["instances"] for x in model(batch)]
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a.scores, b.scores, rtol=1e-4)
