"""How exact the fused backends are."""

import os
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from helpers import loss_cases as cases

from focal_retina.ops import reference
from focal_retina.ops.focal_loss import sigmoid_focal_loss, torch_backend

# Triton's interpreter truncates to bfloat16 where a GPU rounds: twice the error.
TRUNCATES = os.environ.get("TRITON_INTERPRET") == "1"


def true_loss_and_gradient(logits, labels, num_classes, normalizer, formulas):
    """The loss, and the gradient (N, R, K), of the formulas in float64."""
    x = reference.flatten_logits([x.detach().double() for x in logits], num_classes)
    targets = F.one_hot(labels.clamp(min=0), num_classes + 1)[..., :-1].double()
    weight = (labels >= 0)[..., None] / normalizer.double().view(-1, 1, 1)
    losses, gradient = (formula(x, targets) * weight for formula in formulas)
    return losses.sum(), gradient


def assert_as_exact_as_plain_pytorch(backend, form, logits, labels, num_classes):
    """
    Errors are at most twice those of the reference backend in the logits' dtype.

    Or a few float32 roundings of the largest value, as the reference may be exact by luck.
    """
    loss_of, *formulas = form
    normalizer = torch.arange(3.0, 3 + len(labels), device=cases.DEVICE)
    loss, gradient = true_loss_and_gradient(logits, labels, num_classes, normalizer, formulas)
    loss_of = partial(loss_of, logits, labels, num_classes=num_classes, normalizer=normalizer)
    plain, fused = loss_of(backend="reference"), loss_of(backend=backend)
    epsilon = torch.finfo(torch.float32).eps
    assert (fused - loss).abs() <= 2 * (plain - loss).abs() + 4 * epsilon * loss.abs()
    # The reference's own gradient is NaN at saturated logits with gamma < 1.
    plain_error = (cases.flat_gradient(plain, logits, num_classes) - gradient).nan_to_num(0.0).abs()
    factor = 4 if TRUNCATES and logits[0].dtype == torch.bfloat16 else 2
    bound = factor * plain_error.amax() + 2 * epsilon * gradient.abs().amax()
    assert (cases.flat_gradient(fused, logits, num_classes) - gradient).abs().amax() <= bound


GAMMAS = [(2, 0.0), (2, 0.5), (2, 1.0), (2, 2.0), (2, 5.0), (1, 2.0), (80, 0.5), (80, 2.0)]


@cases.every_backend
@cases.both_layouts
@cases.every_dtype
@pytest.mark.parametrize(
    "num_classes, form",
    [
        *[(k, cases.focal_loss_form(alpha=0.25, gamma=gamma)) for k, gamma in GAMMAS],
        (2, cases.focal_loss_star_form(gamma=2.0, beta=1.0)),
        (2, cases.focal_loss_star_form(gamma=4.0, beta=0.0)),
    ],
)
def test_the_losses_are_as_exact_as_plain_pytorch(backend, layout, dtype, num_classes, form):
    logits = cases.make_logits(num_classes, layout=layout, dtype=dtype)
    labels = cases.make_labels(logits, num_classes)
    assert_as_exact_as_plain_pytorch(backend, form, logits, labels, num_classes)


@cases.every_backend
@cases.both_layouts
@pytest.mark.parametrize("num_classes", [1, 3, 1203])
def test_alpha_of_each_class_weights_that_class(backend, layout, num_classes):
    logits = cases.make_logits(num_classes, images=1)[:1]
    logits = [x[:, : 2 * num_classes, :1].detach() for x in logits]
    logits = [x.contiguous(memory_format=layout).requires_grad_() for x in logits]
    labels = cases.make_labels(logits, num_classes, foreground=0.7, ignored=0)
    alpha = torch.linspace(0.05, 0.95, num_classes, dtype=torch.float64, device=cases.DEVICE)
    form = cases.focal_loss_form(alpha=alpha, gamma=2.0)
    assert_as_exact_as_plain_pytorch(backend, form, logits, labels, num_classes)


@cases.every_backend
@cases.both_layouts
@pytest.mark.parametrize("alpha", [0.0, 0.001, 0.999, 1.0])
def test_gamma_0_at_extreme_alpha_is_exact_at_logits_of_100(backend, layout, alpha):
    logits = cases.make_logits(2, layout=layout)
    logits = [x.detach().sign().mul(100).requires_grad_() for x in logits]
    form = cases.focal_loss_form(alpha=alpha, gamma=0.0)
    assert_as_exact_as_plain_pytorch(backend, form, logits, cases.make_labels(logits, 2), 2)


@cases.every_backend
@pytest.mark.parametrize("label", [0, 1])
def test_the_gradient_is_exact_relative_to_itself(backend, label):
    x = torch.linspace(-40, 3, 87) * (1 if label == 1 else -1)
    logits = [x.view(1, 1, 87, 1).to(cases.DEVICE).requires_grad_()]
    labels = torch.full((1, 87), label, device=cases.DEVICE)
    loss_of, *formulas = cases.focal_loss_form(alpha=None, gamma=1.0)
    one = torch.ones(1, device=cases.DEVICE)
    _, expected = true_loss_and_gradient(logits, labels, 1, one, formulas)
    loss = loss_of(logits, labels, num_classes=1, backend=backend)
    gradient = cases.flat_gradient(loss, logits, 1).double()
    torch.testing.assert_close(gradient, expected, rtol=4e-6, atol=0)


@cases.every_backend
def test_the_gradient_is_finite_where_the_references_is_not(backend):
    logits = [torch.tensor([200.0, -200.0], device=cases.DEVICE).view(1, 2, 1, 1).requires_grad_()]
    labels = torch.zeros(1, 1, dtype=torch.int64, device=cases.DEVICE)
    kwargs = {"num_classes": 2, "gamma": 0.5}
    plain = sigmoid_focal_loss(logits, labels, backend="reference", **kwargs)
    fused = sigmoid_focal_loss(logits, labels, backend=backend, **kwargs)
    assert cases.flat_gradient(plain, logits, 2).isnan().all()
    assert cases.flat_gradient(fused, logits, 2).eq(0).all()


@cases.both_layouts
@cases.every_dtype
@pytest.mark.parametrize("num_classes", [1, 80])
def test_the_chunks_of_a_large_level_do_not_matter(monkeypatch, layout, dtype, num_classes):
    logits = cases.make_logits(num_classes, layout=layout, dtype=dtype)
    labels = cases.make_labels(logits, num_classes)

    kwargs = {"num_classes": num_classes, "backend": "torch"}
    loss = sigmoid_focal_loss(logits, labels, **kwargs)
    for buffer_size in (6, 600):
        monkeypatch.setattr("focal_retina.ops.focal_loss.cpu_sweep._BUFFER_SIZE", buffer_size)
        cases.assert_same(sigmoid_focal_loss(logits, labels, **kwargs), loss, logits, num_classes)


@cases.both_layouts
@cases.every_dtype
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_the_sweep_of_other_devices_equals_that_of_a_cpu(monkeypatch, layout, dtype, gamma):
    logits = cases.make_logits(3, layout=layout, dtype=dtype)
    labels = cases.make_labels(logits, 3)
    loss_of = partial(sigmoid_focal_loss, logits, labels, num_classes=3, gamma=gamma)
    sparse = loss_of(backend="torch")
    dense_sweep = torch_backend._dense_sweep
    monkeypatch.setattr(torch_backend, "_sparse_sweep", lambda *args, buffer: dense_sweep(*args))
    monkeypatch.setattr(torch_backend, "_CHUNK", 40)
    dense = loss_of(backend="torch")
    cases.assert_same(dense, sparse, logits)
