"""How the losses are differentiated, compiled and checked by PyTorch."""

import pytest
import torch
from helpers import loss_cases as cases
from torch.testing import assert_close

from focal_retina.ops.focal_loss import sigmoid_focal_loss, sigmoid_focal_loss_star


@cases.every_backend
def test_the_loss_is_the_same_without_a_gradient_and_under_autocast(backend, logits, labels):
    loss = cases.focal_loss(logits, labels, backend)
    with torch.no_grad():
        assert_close(cases.focal_loss(logits, labels, backend), loss)
    with torch.autocast(cases.DEVICE.type, torch.bfloat16):
        autocast = cases.focal_loss(logits, labels, backend)
    cases.assert_same(autocast, loss, logits, rtol=0, atol=0)


@cases.every_backend
def test_a_retained_graph_gives_the_same_gradient_again(backend, logits, labels):
    loss = cases.focal_loss(logits, labels, backend)
    once = [g.clone() for g in cases.gradients(loss, logits)]
    for times in (1, 2, 3):
        loss.backward(retain_graph=True)
        for x, g in zip(logits, once, strict=True):
            assert_close(x.grad, times * g)


@cases.every_backend
@cases.every_dtype
def test_a_scaled_loss_scales_the_gradient(backend, dtype):
    logits = cases.make_logits(3, dtype=dtype)
    loss = cases.focal_loss(logits, cases.make_labels(logits, 3), backend)
    gradient = cases.flat_gradient(loss, logits).float()
    for factor in (0.25, 0.5):
        scaled = cases.flat_gradient(loss * factor, logits).float()
        assert_close(scaled, gradient * factor, rtol=1e-2, atol=1e-6)


@cases.every_backend
def test_a_gradient_scaler_saves_float16_gradients_from_underflow(backend):
    x = torch.full((1, 1, 4, 4), -3.0, dtype=torch.float16, device=cases.DEVICE)
    logits = [x.requires_grad_()]
    labels = torch.ones(1, 16, dtype=torch.int64, device=cases.DEVICE)
    kwargs = {"num_classes": 1, "normalizer": 1e6, "backend": backend}
    loss = sigmoid_focal_loss(logits, labels, **kwargs)
    exact = sigmoid_focal_loss([x.float() for x in logits], labels, **kwargs)
    assert cases.flat_gradient(loss, logits, 1).eq(0).all()
    scaled, expected = (cases.flat_gradient(x * 2.0**16, logits, 1) for x in (loss, exact))
    assert_close(scaled, expected, rtol=2e-3, atol=0)


@cases.every_backend
@cases.every_dtype
def test_a_second_derivative_is_refused(backend, dtype):
    logits = cases.make_logits(3, dtype=dtype)
    loss = cases.focal_loss(logits, cases.make_labels(logits, 3), backend)
    first = torch.autograd.grad(loss, logits, create_graph=True)
    refusal = "cannot be differentiated twice; backend 'reference' can"
    with pytest.raises(RuntimeError, match=refusal):
        sum(g.sum() for g in first).backward()


def test_the_reference_has_a_second_derivative(logits, labels):
    loss = cases.focal_loss(logits, labels, "reference")
    first = torch.autograd.grad(loss, logits, create_graph=True)
    second = torch.autograd.grad(sum(g.sum() for g in first), logits)
    assert all(g.ne(0).any() for g in second)


@cases.every_backend
@pytest.mark.parametrize("name", ["sigmoid_focal_loss", "sigmoid_focal_loss_backward"])
def test_opcheck_passes(backend, logits, labels, name):
    weights = torch.full((2, 3), 0.5, dtype=torch.float64, device=cases.DEVICE)
    scale = torch.ones(2, dtype=torch.float64, device=cases.DEVICE)
    leaves = {name: [x.detach() for x in logits], "sigmoid_focal_loss": logits}[name]
    args = leaves, labels, weights, scale, [2.0, 1.0, 0.0], backend
    torch.library.opcheck(getattr(torch.ops.focal_retina, name).default, args)


@cases.every_backend
@pytest.mark.parametrize("loss_of", [sigmoid_focal_loss, sigmoid_focal_loss_star])
def test_the_loss_compiles_as_one_graph(backend, logits, labels, loss_of):
    def train(logits, labels):
        return loss_of(logits, labels, num_classes=3, normalizer=7.0, backend=backend)

    torch._dynamo.reset()
    compiled = torch.compile(train, fullgraph=True, backend="aot_eager")(logits, labels)
    cases.assert_same(compiled, train(logits, labels), logits)


@cases.every_backend
def test_a_gradient_that_is_held_is_not_overwritten_by_the_next(backend, logits, labels):
    held = cases.gradients(cases.focal_loss(logits, labels, backend), logits)
    copies = [g.clone() for g in held]
    others = cases.gradients(cases.focal_loss(logits, labels, backend, gamma=0.0), logits)
    assert all(torch.equal(g, c) for g, c in zip(held, copies, strict=True))
    assert not any(torch.equal(g, o) for g, o in zip(held, others, strict=True))
