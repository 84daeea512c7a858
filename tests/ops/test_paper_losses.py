"""Every classification loss has the derivative and the constants that the paper states."""

from functools import partial

import pytest
import torch
from torch.autograd import gradcheck

from focal_retina.ops import reference
from focal_retina.ops.focal_loss import sigmoid_focal_loss, sigmoid_focal_loss_star

K = 3
ALPHA = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
# name -> (loss, its derivative), both of logits and targets
ELEMENTWISE = {
    "CE": (reference.cross_entropy, reference.cross_entropy_gradient),
    **{
        f"FL gamma {gamma}": (
            partial(reference.focal_loss, alpha=0.25, gamma=gamma),
            partial(reference.focal_loss_gradient, alpha=0.25, gamma=gamma),
        )
        for gamma in (0.0, 0.5, 2.0, 5.0)
    },
    **{
        f"FL* gamma {gamma} beta {beta}": (
            partial(reference.focal_loss_star, gamma=gamma, beta=beta),
            partial(reference.focal_loss_star_gradient, gamma=gamma, beta=beta),
        )
        for gamma, beta in ((2.0, 1.0), (4.0, 0.0))
    },
    "hinge": (
        partial(reference.hinge_loss, alpha=ALPHA, threshold=0.6),
        partial(reference.hinge_loss_gradient, alpha=ALPHA, threshold=0.6),
    ),
}


def leaf_logits(*shape, scale=3.0):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale
    return x.requires_grad_()


def some_labels(*shape, lowest=0):
    return torch.randint(lowest, K + 1, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_automatic_derivative_is_the_stated_one(name):
    loss, gradient = ELEMENTWISE[name]
    x = leaf_logits(200, K)
    targets = torch.nn.functional.one_hot(some_labels(200), K + 1)[:, :-1].double()
    (automatic,) = torch.autograd.grad(loss(x, targets).sum(), x)
    torch.testing.assert_close(automatic, gradient(x.detach(), targets))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_gradcheck_of_the_summed_loss(name):
    loss = partial(reference.anchor_losses, ELEMENTWISE[name][0], num_classes=K)
    x, labels = leaf_logits(2, 2 * K, 2, 1), some_labels(2, 4, lowest=-1)
    assert gradcheck(lambda x: loss([x], labels).sum(), x)


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize(
    "loss",
    [
        partial(sigmoid_focal_loss, alpha=None, gamma=0.0),
        partial(sigmoid_focal_loss, alpha=0.75, gamma=0.0),
        partial(sigmoid_focal_loss, alpha=ALPHA, gamma=2.0),
        partial(sigmoid_focal_loss_star, gamma=2.0, beta=1.0),
    ],
)
def test_gradcheck_of_the_losses_that_have_backends(loss, backend):
    x, labels = leaf_logits(2, 2 * K, 2, 1), some_labels(2, 4, lowest=-1)
    loss = partial(loss, num_classes=K, normalizer=3.0, backend=backend)
    assert gradcheck(lambda x: loss([x], labels), x)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.25, ALPHA])
def test_gradcheck_of_the_softmax_focal_loss(gamma, alpha):
    loss = partial(reference.softmax_focal_loss, alpha=alpha, gamma=gamma)
    x, labels = leaf_logits(12, K + 1), some_labels(12)
    assert gradcheck(lambda x: loss(x, labels).sum(), x)


def test_the_softmax_focal_loss_at_gamma_zero_is_cross_entropy():
    x, labels = leaf_logits(50, K + 1), some_labels(50)
    losses = reference.softmax_focal_loss(x, labels, alpha=None, gamma=0.0)
    expected = torch.nn.functional.cross_entropy(x, labels, reduction="none")
    torch.testing.assert_close(losses, expected)


def test_softmax_over_one_class_and_background_is_the_sigmoid_of_their_difference():
    x, labels = leaf_logits(50, 2), some_labels(50) % 2
    losses = reference.softmax_focal_loss(x, labels, alpha=0.25, gamma=2.0)
    difference, targets = x[:, 0] - x[:, 1], (labels == 0).double()
    expected = reference.focal_loss(difference, targets, alpha=0.25, gamma=2.0)
    torch.testing.assert_close(losses, expected)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 2.0])
@pytest.mark.parametrize("scale", [1e2, 1e4, 1e30])
def test_extreme_logits_give_finite_softmax_losses_and_gradients(gamma, scale):
    x = (torch.eye(4) * scale).requires_grad_()
    for labels in ([0, 1, 2, 3], [3, 0, 0, 1]):
        loss = reference.softmax_focal_loss(x, torch.tensor(labels), alpha=0.25, gamma=gamma)
        (gradient,) = torch.autograd.grad(loss.sum(), x)
        assert loss.isfinite().all() and gradient.isfinite().all()


@pytest.mark.parametrize("scale", [0.0, 1e2, 1e30])
def test_extreme_logits_give_finite_hinge_losses_and_gradients(scale):
    x = torch.tensor([[scale, -scale]]).requires_grad_()
    loss = reference.hinge_loss(x, torch.tensor([[1.0, 1.0]]), alpha=0.25, threshold=0.5)
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    assert loss.isfinite().all() and gradient.isfinite().all()
    assert loss[0, 0] == 0


@pytest.mark.parametrize(("p_t", "factor"), [(0.9, 100), (0.968, 977), (0.5, 4)])
def test_gamma_two_discounts_easy_examples_as_the_paper_says(p_t, factor):
    x, targets = torch.logit(torch.tensor([p_t], dtype=torch.float64)), torch.ones(1)
    focal = reference.focal_loss(x, targets, alpha=None, gamma=2.0)
    ratio = reference.cross_entropy(x, targets.double()) / focal
    assert ratio.item() == pytest.approx(factor, rel=1e-3)


def test_one_normalizer_per_image_divides_each_images_losses():
    losses = torch.tensor([[1.0, 3.0], [10.0, 0.0]])
    by_image = reference.normalized_sum(losses, torch.tensor([2.0, 5.0], dtype=torch.float64))
    assert by_image.item() == 4.0
    assert by_image.dtype == torch.float32
    assert reference.normalized_sum(losses, 7).item() == 2.0
