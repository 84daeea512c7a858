"""The reference losses have the values and derivatives that the paper states."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from fvcore.nn import sigmoid_focal_loss as fvcore_focal_loss
from fvcore.nn import sigmoid_focal_loss_star as fvcore_focal_loss_star
from helpers.loss_cases import both_layouts, focal_loss_form, focal_loss_star_form
from torch.autograd import gradcheck

from focal_retina.ops import reference
from focal_retina.ops.focal_loss import sigmoid_focal_loss, sigmoid_focal_loss_star

GAMMAS = [0.0, 0.5, 1.0, 2.0, 5.0]
K = 3
ALPHA = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)

# name -> (loss, its derivative by the paper), both of logits x and targets t.
DERIVATIVES = {
    "CE": (reference.cross_entropy, lambda x, t: (2 * t - 1) * (p_t(x, t) - 1)),
    "hinge": (
        partial(reference.hinge_loss, alpha=ALPHA, threshold=0.6),
        lambda x, t: -alpha_t(t) * (2 * t - 1) * p_t(x, t) * (1 - p_t(x, t)) * (p_t(x, t) < 0.6),
    ),
}
for gamma in GAMMAS:
    DERIVATIVES[f"FL gamma {gamma}"] = focal_loss_form(alpha=ALPHA, gamma=gamma)[1:]
for gamma, beta in [(2.0, 1.0), (4.0, 0.0)]:
    name = f"FL* gamma {gamma} beta {beta}"
    DERIVATIVES[name] = focal_loss_star_form(gamma=gamma, beta=beta)[1:]


def p_t(logits, targets):
    return torch.where(targets > 0, logits.sigmoid(), 1 - logits.sigmoid())


def alpha_t(targets):
    return torch.where(targets > 0, ALPHA, 1 - ALPHA)


def leaf_logits(*shape, scale=3.0):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale
    return x.requires_grad_()


def some_labels(*shape, lowest=0):
    return torch.randint(lowest, K + 1, shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def logits():
    return leaf_logits(200, K).detach()


@pytest.fixture
def targets():
    return F.one_hot(some_labels(200), K + 1)[:, :-1].double()


def logit(p):
    return torch.tensor(p, dtype=torch.float64).logit()


@pytest.mark.parametrize("alpha", [-1, 0.25])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_loss_equals_fvcore_bit_for_bit(logits, targets, alpha, gamma):
    x, t = logits.float(), targets.float()
    ours = reference.focal_loss(x, t, alpha=None if alpha < 0 else alpha, gamma=gamma)
    assert torch.equal(ours, fvcore_focal_loss(x, t, alpha=alpha, gamma=gamma))


ONE_LOSS_IS_ANOTHER = {
    "FL at gamma 0 is CE, to the bit": (
        partial(reference.focal_loss, alpha=None, gamma=0.0),
        reference.cross_entropy,
        {"rtol": 0, "atol": 0},
    ),
    "FL* at gamma 1 and beta 0 is CE": (
        partial(reference.focal_loss_star, gamma=1.0, beta=0.0),
        reference.cross_entropy,
        {},
    ),
    "FL* at beta 0 is fvcore's": (
        lambda x, t: reference.focal_loss_star(x.float(), t.float(), gamma=2.0, beta=0.0),
        partial(fvcore_focal_loss_star, gamma=2.0),
        {},
    ),
    "alpha weights foreground, its complement background": (
        partial(reference.focal_loss, alpha=0.25, gamma=2.0),
        lambda x, t: (0.75 - t / 2) * reference.focal_loss(x, t, alpha=None, gamma=2.0),
        {},
    ),
}


@pytest.mark.parametrize("name", ONE_LOSS_IS_ANOTHER)
def test_one_loss_is_another(logits, targets, name):
    ours, theirs, tolerance = ONE_LOSS_IS_ANOTHER[name]
    torch.testing.assert_close(ours(logits, targets), theirs(logits, targets), **tolerance)


@pytest.mark.parametrize("p, factor", [(0.9, 100.0), (0.968, 977.0), (0.5, 4.0)])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_gamma_2_makes_easy_examples_cheaper_by_the_papers_factors(p, factor, target):
    x, t = (2 * target - 1) * logit(p), torch.tensor(target, dtype=torch.float64)
    cheaper = reference.cross_entropy(x, t) / reference.focal_loss(x, t, alpha=None, gamma=2.0)
    assert cheaper.item() == pytest.approx(factor, rel=1e-3)


def test_gamma_2_makes_hard_examples_at_most_4_times_cheaper():
    x, t = logit([0.5, 0.3, 0.1, 0.001]), torch.ones(4, dtype=torch.float64)
    cheaper = reference.cross_entropy(x, t) / reference.focal_loss(x, t, alpha=None, gamma=2.0)
    assert cheaper.max().item() == pytest.approx(4)


@pytest.mark.parametrize("name", DERIVATIVES)
def test_the_automatic_derivative_is_the_papers(logits, targets, name):
    loss, derivative = DERIVATIVES[name]
    x = logits.requires_grad_()
    (automatic,) = torch.autograd.grad(loss(x, targets).sum(), x)
    torch.testing.assert_close(automatic, derivative(x.detach(), targets))


@pytest.mark.parametrize("name", DERIVATIVES)
def test_gradcheck_of_the_losses_of_anchors(name):
    loss = partial(reference.anchor_losses, DERIVATIVES[name][0], num_classes=K)
    x, labels = leaf_logits(2, 2 * K, 2, 1), some_labels(2, 4, lowest=-1)
    assert gradcheck(lambda x: loss([x], labels).sum(), x)


@both_layouts
@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize(
    "loss",
    [
        *[partial(sigmoid_focal_loss, gamma=gamma) for gamma in GAMMAS],
        partial(sigmoid_focal_loss, alpha=None, gamma=0.0),
        partial(sigmoid_focal_loss, alpha=ALPHA, gamma=2.0),
        partial(sigmoid_focal_loss_star, gamma=2.0, beta=1.0),
    ],
)
def test_gradcheck_of_the_losses_that_have_backends(loss, backend, layout):
    x, labels = leaf_logits(2, 2 * K, 2, 1, scale=1.0), some_labels(2, 4, lowest=-1)
    x = x.detach().contiguous(memory_format=layout).requires_grad_()
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
    torch.testing.assert_close(losses, F.cross_entropy(x, labels, reduction="none"))


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


def test_one_normalizer_per_image_divides_each_images_losses():
    losses = torch.tensor([[1.0, 3.0], [10.0, 0.0]])
    by_image = reference.normalized_sum(losses, torch.tensor([2.0, 5.0], dtype=torch.float64))
    assert by_image.item() == 4.0
    assert by_image.dtype == torch.float32
    assert reference.normalized_sum(losses, 7).item() == 2.0


@both_layouts
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_the_reference_backend_equals_detectron2_bit_for_bit(dtype, layout, gamma):
    torch.manual_seed(0)
    logits = [torch.randn(2, 3 * 5, *size).mul(4).to(dtype) for size in [(9, 7), (4, 3)]]
    logits = [x.contiguous(memory_format=layout).requires_grad_() for x in logits]
    labels = torch.randint(-1, 6, (2, 3 * (63 + 12)))
    # The classification loss of Detectron2's RetinaNet.losses.
    x = torch.cat([permute_to_N_HWA_K(x, 5) for x in logits], dim=1)[labels >= 0]
    targets = F.one_hot(labels[labels >= 0], 6)[:, :-1].to(dtype)
    theirs = fvcore_focal_loss(x, targets, alpha=0.25, gamma=gamma, reduction="sum") / 137.3
    expected = torch.autograd.grad(theirs, logits)
    for normalizer in (137.3, torch.tensor(137.3), torch.tensor(137.3, dtype=torch.float64)):
        ours = sigmoid_focal_loss(
            logits, labels, num_classes=5, gamma=gamma, normalizer=normalizer, backend="reference"
        )
        assert torch.equal(ours, theirs)
        gradients = torch.autograd.grad(ours, logits)
        assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))
