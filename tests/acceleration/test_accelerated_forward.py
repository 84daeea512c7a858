"""One context has all that is faster on a CPU, and does nothing elsewhere or while recording."""

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn

from focal_retina import acceleration
from focal_retina.acceleration import accelerated_forward
from focal_retina.acceleration.convolution import WinogradConvolutions
from focal_retina.acceleration.folding import folded_in_each_forward


@pytest.fixture
def model():
    """Two convolutions, of which the first is folded, and both are large."""
    torch.manual_seed(0)
    norm = FrozenBatchNorm2d(128)
    nn.init.normal_(norm.weight)
    folded = Conv2d(128, 128, 3, padding=1, bias=False, norm=norm)
    return nn.Sequential(folded, nn.Conv2d(128, 128, 3, padding=1))


def test_winograd_and_folding_change_the_rounding_together(model):
    x = torch.randn(1, 128, 48, 52).contiguous(memory_format=torch.channels_last)
    plain = model(x)
    with accelerated_forward(model):
        fast = model(x)
    with WinogradConvolutions(), folded_in_each_forward(model):
        expected = model(x)
    assert torch.equal(fast, expected)
    assert not torch.equal(fast, plain)
    assert (fast - plain).abs().max() <= 1e-4 * plain.abs().max()
    assert torch.equal(model(x), plain)


@pytest.mark.parametrize("recording", ["torch.jit.is_tracing", "torch.compiler.is_compiling"])
def test_nothing_is_done_while_a_model_is_recorded(model, monkeypatch, recording):
    monkeypatch.setattr(recording, lambda: True)
    with accelerated_forward(model):
        assert "forward" not in vars(model[0])


def test_nothing_is_done_off_a_cpu(model, monkeypatch):
    monkeypatch.setattr(acceleration, "WinogradConvolutions", None)
    with accelerated_forward(model.to("meta")):
        assert "forward" not in vars(model[0])
