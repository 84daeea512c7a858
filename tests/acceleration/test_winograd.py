"""Winograd's convolution and its gradients are the direct ones but for rounding."""

import pytest
import torch
import torch.nn.functional as F

from focal_retina.acceleration import winograd
from focal_retina.acceleration.winograd import Workspace, convolve, transform_kernel

# Of the largest entry. Direct ones come to 1e-6.
TOLERANCE = 2e-5


def random_layer(n, in_channels, out_channels, height, width):
    torch.manual_seed(height + width)
    x = torch.randn(n, in_channels, height, width).relu()
    weight, bias = torch.randn(out_channels, in_channels, 3, 3), torch.randn(out_channels)
    grad = torch.randn(n, out_channels, height, width)
    layout = torch.channels_last
    return tuple(t.contiguous(memory_format=layout) for t in (x, weight, grad)), bias


def convolution(x, weight, bias=None, workspace=None):
    workspace = workspace or Workspace()
    return convolve(x, transform_kernel(weight, workspace).transpose(1, 2), bias, workspace)


def results(layer, workspace=None):
    """Return outputs and gradients of input and weight by Winograd's algorithm."""
    (x, weight, grad), bias = layer
    workspace = workspace or Workspace()
    y = convolution(x, weight, bias, workspace)
    rotated = transform_kernel(weight, workspace, rotated=True)
    x_grad = convolve(grad, rotated, None, workspace)
    return y, x_grad, winograd.weight_gradient(x, grad, workspace)


def assert_exact(layer):
    (x, weight, grad), bias = layer
    x, weight = x.double().requires_grad_(), weight.double().requires_grad_()
    y = F.conv2d(x, weight, bias.double(), padding=1)
    exact = y.detach(), *torch.autograd.grad(y, (x, weight), grad.double())
    for a, b in zip(results(layer), exact, strict=True):
        assert a.shape == b.shape and a.dtype == torch.float32
        assert (a - b).abs().max() <= TOLERANCE * b.abs().max()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 5), (4, 4), (5, 8), (8, 5), (25, 38)])
@pytest.mark.parametrize("n, channels", [(1, (1, 1)), (2, (3, 5)), (3, (32, 16))])
def test_any_size_batch_and_number_of_channels(size, n, channels):
    assert_exact(random_layer(n, *channels, *size))


@pytest.mark.parametrize("step", [1, 100, 1000])
def test_steps_of_any_length_give_the_same(step, monkeypatch):
    monkeypatch.setattr(winograd, "_STEP", step)
    assert_exact(random_layer(2, 8, 12, 21, 30))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_extreme_inputs_keep_their_scale(scale):
    y = convolution(torch.full((1, 1, 6, 6), scale), torch.ones(1, 1, 3, 3))
    assert y[0, 0, 2, 2].item() == pytest.approx(9 * scale, rel=1e-4)


def test_what_is_not_finite_shows():
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 5, 5] = float("nan")
    assert convolution(x, torch.ones(1, 1, 3, 3))[0, 0, 4:7, 4:7].isnan().all()


def test_memory_of_other_layers_leaves_no_trace():
    workspace = Workspace()
    for size in ((1, 16, 24, 40, 33), (2, 4, 3, 6, 7), (1, 24, 16, 9, 50)):
        layer = random_layer(*size)
        used, fresh = results(layer, workspace), results(layer)
        assert all(torch.equal(a, b) for a, b in zip(used, fresh, strict=True))


def test_outputs_are_channels_last():
    y, x_grad, _ = results(random_layer(2, 8, 12, 21, 30))
    assert all(t.is_contiguous(memory_format=torch.channels_last) for t in (y, x_grad))
