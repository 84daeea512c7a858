"""Folding batch normalisation changes nothing but rounding, and leaves no trace."""

import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling import build_model
from helpers.batches import GN_R18, detectron2_retinanet_config
from torch import nn

from focal_retina.acceleration import folding
from focal_retina.acceleration.convolution import WinogradConvolutions
from focal_retina.acceleration.folding import folded_batch_norm, folded_in_each_forward


def model_with(norm):
    torch.manual_seed(0)
    overrides = {"MODEL.META_ARCHITECTURE": "FocalRetinaNet", "MODEL.RESNETS.NORM": norm}
    model = build_model(detectron2_retinanet_config({**GN_R18, **overrides})).eval()
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d | nn.BatchNorm2d):
            nn.init.normal_(module.weight.data, 0.5, 0.1)
            nn.init.normal_(module.bias.data, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model


@pytest.mark.parametrize("norm", ["FrozenBN", "BN"])
@torch.no_grad()
def test_features_are_the_same_up_to_rounding_and_the_model_comes_back_to_the_bit(norm):
    model = model_with(norm)
    images = torch.randn(1, 3, 64, 96)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    expected = model.backbone(images)
    with folded_batch_norm(model):
        assert not any(isinstance(m, FrozenBatchNorm2d | nn.BatchNorm2d) for m in model.modules())
        folded = model.backbone(images)
    for name, feature in expected.items():
        assert torch.allclose(folded[name], feature, rtol=1e-4, atol=1e-4 * feature.abs().max())
        assert not torch.equal(folded[name], feature)
    after = model.state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(after[k], v) for k, v in state.items())


@pytest.mark.parametrize("context", [folded_batch_norm, folded_in_each_forward])
def test_the_model_comes_back_after_an_error(context):
    model = model_with("FrozenBN")
    keys = model.state_dict().keys()
    with pytest.raises(KeyError), context(model):
        raise KeyError("anything")
    assert model.state_dict().keys() == keys
    assert not any("forward" in vars(m) for m in model.modules())


def test_a_model_in_training_is_refused():
    with pytest.raises(ValueError, match="eval"), folded_batch_norm(model_with("BN").train()):
        pass


def features_and_gradients(backbone, images, dtype=None):
    """Return features and gradients as two vectors."""
    backbone.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        features = backbone(images)
    flat = torch.cat([x.float().flatten() for x in features.values()])
    flat.sin().mean().backward()
    gradients = [p.grad.flatten() for p in backbone.parameters() if p.requires_grad]
    return flat.detach(), torch.cat(gradients)


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()


def test_training_gives_the_same_features_and_gradients_up_to_rounding_in_bfloat16_too():
    backbone, images = model_with("FrozenBN").backbone.train(), torch.randn(2, 3, 64, 96)
    plain = features_and_gradients(backbone, images)
    plain_bf16 = features_and_gradients(backbone, images, torch.bfloat16)
    with folded_in_each_forward(backbone):
        folded = features_and_gradients(backbone, images)
        folded_bf16 = features_and_gradients(backbone, images, torch.bfloat16)
    again = features_and_gradients(backbone, images)
    for number in range(2):
        assert 0 < distance(folded[number], plain[number]) < 1e-4
        rounding = distance(plain_bf16[number], plain[number])
        assert distance(folded_bf16[number], plain[number]) <= 1.1 * rounding
        assert torch.equal(again[number], plain[number])


@pytest.mark.parametrize("size", [(8, 8), (48, 52)], ids=["direct", "Winograd"])
def test_the_graph_computes_folded_weights_again(size, monkeypatch):
    conv = Conv2d(128, 128, 3, padding=1, bias=False, norm=FrozenBatchNorm2d(128))
    nn.init.normal_(conv.norm.weight)
    x = torch.randn(1, 128, *size).contiguous(memory_format=torch.channels_last)
    kept, saved_as = [], folding._saved_as
    monkeypatch.setattr(
        folding, "_saved_as", lambda x, *args: kept.append(weakref.ref(x)) or saved_as(x, *args)
    )
    with WinogradConvolutions(), folded_in_each_forward(conv):
        y = conv(x)
    assert kept[0]() is None
    y.sum().backward()
    found, conv.weight.grad = conv.weight.grad, None
    conv(x).sum().backward()
    assert distance(found, conv.weight.grad) < 1e-4


@pytest.mark.parametrize("norm", ["BN", "GN", ""])
def test_other_normalisations_are_left_alone_in_training(norm):
    backbone = model_with(norm).backbone.train()
    with folded_in_each_forward(backbone):
        replaced = [m for m in backbone.modules() if "forward" in vars(m)]
    # FREEZE_AT makes those of the first stages FrozenBN.
    assert all(isinstance(m.norm, FrozenBatchNorm2d) for m in replaced)


@pytest.mark.parametrize("bias, activation", [(False, torch.tanh), (True, None)])
def test_an_activation_and_a_bias_count_too(bias, activation):
    norm = FrozenBatchNorm2d(4)
    conv = Conv2d(3, 4, 3, bias=bias, norm=norm, activation=activation)
    nn.init.normal_(norm.weight)
    x = torch.randn(1, 3, 8, 8)
    expected = norm(nn.functional.conv2d(x, conv.weight, conv.bias))
    with folded_in_each_forward(conv):
        assert torch.allclose(conv(x), activation(expected) if activation else expected, atol=1e-6)


@pytest.mark.parametrize("context", [folded_batch_norm, folded_in_each_forward])
@torch.no_grad()
def test_threads_share_a_model_and_the_last_one_restores_it(context):
    model, images = model_with("FrozenBN").backbone, torch.randn(1, 3, 32, 32)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with context(model):
        expected = model(images)

    def run(_):
        with context(model):
            return model(images)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(run, range(16)))
    finally:
        sys.setswitchinterval(interval)
    for features in found:
        assert all(torch.equal(features[name], expected[name]) for name in expected)
    assert not any("forward" in vars(m) for m in model.modules())
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
