from functools import partial

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from fvcore.nn import sigmoid_focal_loss as fvcore_focal_loss
from fvcore.nn import sigmoid_focal_loss_star as fvcore_focal_loss_star
from torch.autograd import gradcheck

from focal_retina.ops import reference
from focal_retina.ops.focal_loss import sigmoid_focal_loss

GAMMAS = [0.0, 0.5, 1.0, 2.0, 5.0]


@pytest.fixture
def logits():
    return torch.linspace(-8, 8, 202, dtype=torch.float64).view(2, 101)


@pytest.fixture
def targets():
    return torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(2, 101)


def logit(p):
    return torch.tensor(p, dtype=torch.float64).logit()


def derivative(function, logits):
    x = logits.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


@pytest.mark.parametrize("alpha", [-1, 0.25])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_loss_equals_fvcore_bit_for_bit(logits, targets, alpha, gamma):
    x, t = logits.float(), targets.float()
    ours = reference.focal_loss(x, t, alpha=None if alpha < 0 else alpha, gamma=gamma)
    assert torch.equal(ours, fvcore_focal_loss(x, t, alpha=alpha, gamma=gamma))


def test_focal_loss_star_equals_fvcore_at_beta_0(logits, targets):
    ours = reference.focal_loss_star(logits.float(), targets.float(), gamma=2.0, beta=0.0)
    theirs = fvcore_focal_loss_star(logits, targets, gamma=2.0)
    torch.testing.assert_close(ours, theirs)


def test_gamma_0_is_the_cross_entropy(logits, targets):
    ours = reference.focal_loss(logits, targets, alpha=None, gamma=0.0)
    assert torch.equal(ours, reference.cross_entropy(logits, targets))


def test_focal_loss_star_with_gamma_1_and_beta_0_is_the_cross_entropy(logits, targets):
    ours = reference.focal_loss_star(logits, targets, gamma=1.0, beta=0.0)
    torch.testing.assert_close(ours, reference.cross_entropy(logits, targets))


@pytest.mark.parametrize("p_t, factor", [(0.9, 100.0), (0.968, 977.0)])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_gamma_2_makes_easy_examples_cheaper_by_the_papers_factors(p_t, factor, target):
    x, t = (2 * target - 1) * logit(p_t), torch.tensor(target, dtype=torch.float64)
    cheaper = reference.cross_entropy(x, t) / reference.focal_loss(x, t, alpha=None, gamma=2.0)
    assert cheaper.item() == pytest.approx(factor, rel=1e-3)


def test_gamma_2_makes_hard_examples_at_most_4_times_cheaper():
    x, t = logit([0.5, 0.3, 0.1, 0.001]), torch.ones(4, dtype=torch.float64)
    cheaper = reference.cross_entropy(x, t) / reference.focal_loss(x, t, alpha=None, gamma=2.0)
    assert cheaper.max().item() == pytest.approx(4)


def test_alpha_weights_foreground_and_its_complement_background(logits, targets):
    weighted = reference.focal_loss(logits, targets, alpha=0.25, gamma=2.0)
    plain = reference.focal_loss(logits, targets, alpha=None, gamma=2.0)
    torch.testing.assert_close(weighted / plain, torch.where(targets > 0, 0.25, 0.75).double())


def test_the_cross_entropys_derivative_is_the_papers(logits, targets):
    expected = (2 * targets - 1) * (reference.probability(logits, targets) - 1)
    automatic = derivative(partial(reference.cross_entropy, targets=targets), logits)
    torch.testing.assert_close(automatic, expected)
    torch.testing.assert_close(reference.cross_entropy_gradient(logits, targets), expected)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_the_focal_losss_derivative_is_the_papers(logits, targets, gamma):
    p_t = reference.probability(logits, targets)
    expected = (2 * targets - 1) * (1 - p_t) ** gamma * (gamma * p_t * p_t.log() + p_t - 1)
    loss = partial(reference.focal_loss, targets=targets, alpha=None, gamma=gamma)
    torch.testing.assert_close(derivative(loss, logits), expected)
    formula = reference.focal_loss_gradient(logits, targets, alpha=None, gamma=gamma)
    torch.testing.assert_close(formula, expected)


@pytest.mark.parametrize("gamma, beta", [(2.0, 1.0), (4.0, 0.0)])
def test_the_derivative_of_focal_loss_star_is_the_papers(logits, targets, gamma, beta):
    y = 2 * targets - 1
    expected = y * (torch.sigmoid(gamma * y * logits + beta) - 1)
    loss = partial(reference.focal_loss_star, targets=targets, gamma=gamma, beta=beta)
    torch.testing.assert_close(derivative(loss, logits), expected)
    formula = reference.focal_loss_star_gradient(logits, targets, gamma=gamma, beta=beta)
    torch.testing.assert_close(formula, expected)


def test_the_derivative_formula_is_finite_where_the_automatic_one_is_not():
    x, t = torch.tensor([200.0]), torch.ones(1)
    loss = partial(reference.focal_loss, targets=t, alpha=0.25, gamma=0.5)
    assert derivative(loss, x).isnan()
    assert reference.focal_loss_gradient(x, t, alpha=0.25, gamma=0.5) == 0


@pytest.mark.parametrize("gamma", GAMMAS)
def test_gradcheck_of_the_whole_reference(gamma):
    torch.manual_seed(0)
    x = torch.randn(1, 6, 2, 1, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[0, -1, 3, 2]])
    kwargs = {"num_classes": 3, "gamma": gamma, "backend": "reference"}
    assert gradcheck(lambda x: sigmoid_focal_loss([x], labels, **kwargs), x)


def detectron2_loss(logits, labels, num_classes, normalizer, gamma):
    """The classification loss of Detectron2's ``RetinaNet.losses``, with fvcore's focal loss."""
    logits = [permute_to_N_HWA_K(x, num_classes) for x in logits]
    valid = labels >= 0
    targets = F.one_hot(labels[valid], num_classes + 1)[:, :-1].to(logits[0].dtype)
    x = torch.cat(logits, dim=1)[valid]
    return fvcore_focal_loss(x, targets, alpha=0.25, gamma=gamma, reduction="sum") / normalizer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_the_reference_backend_equals_detectron2_bit_for_bit(dtype, layout, gamma):
    torch.manual_seed(0)
    logits = [torch.randn(2, 3 * 5, *size).mul(4).to(dtype) for size in [(9, 7), (4, 3)]]
    logits = [x.contiguous(memory_format=layout).requires_grad_() for x in logits]
    labels = torch.randint(-1, 6, (2, 3 * (63 + 12)))
    theirs = detectron2_loss(logits, labels, 5, 137.3, gamma)
    for normalizer in (137.3, torch.tensor(137.3), torch.tensor(137.3, dtype=torch.float64)):
        ours = sigmoid_focal_loss(
            logits, labels, num_classes=5, gamma=gamma, normalizer=normalizer, backend="reference"
        )
        assert torch.equal(ours, theirs)
        gradients = zip(
            *(torch.autograd.grad(v, logits, retain_graph=True) for v in (ours, theirs)),
            strict=True,
        )
        assert all(torch.equal(a, b) for a, b in gradients)
