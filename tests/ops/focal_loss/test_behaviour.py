"""What the losses accept, ignore, refuse and leave alone."""

import statistics
import time
from functools import partial

import pytest
import torch
from helpers import loss_cases as cases
from torch.testing import assert_close

from focal_retina.ops.focal_loss import sigmoid_focal_loss, sigmoid_focal_loss_star

not_finite = pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])


@cases.every_backend
@cases.every_dtype
@cases.both_layouts
def test_the_gradient_has_the_dtype_and_memory_format_of_the_logits(backend, dtype, layout):
    logits = cases.make_logits(3, dtype=dtype, layout=layout)
    loss = cases.focal_loss(logits, cases.make_labels(logits, 3), backend)
    assert loss.dtype == torch.float32 and loss.shape == ()
    for g, x in zip(cases.gradients(loss, logits), logits, strict=True):
        assert g.dtype == x.dtype and g.stride() == x.stride()


@cases.all_backends
def test_the_logits_and_labels_are_not_modified(backend, logits, labels):
    before = [x.detach().clone() for x in (*logits, labels)]
    cases.focal_loss(logits, labels, backend).backward()
    assert all(torch.equal(x, y) for x, y in zip((*logits, labels), before, strict=True))


@cases.all_backends
def test_nothing_but_ignored_anchors_cost_nothing(backend, logits, labels):
    loss = cases.focal_loss(logits, torch.full_like(labels, -1), backend)
    assert loss == 0
    assert cases.flat_gradient(loss, logits).eq(0).all()


@cases.all_backends
@not_finite
def test_a_logit_of_an_ignored_anchor_does_not_matter(backend, logits, labels, value):
    labels[:, 1] = -1  # the second anchor of the first cell: channels 3 to 5
    expected = cases.with_gradient(cases.focal_loss(logits, labels, backend), logits)
    with torch.no_grad():
        logits[0][:, 3:6, 0, 0] = value
    found = cases.with_gradient(cases.focal_loss(logits, labels, backend), logits)
    assert found[1][:, 1].eq(0).all()
    assert_close(found, expected, rtol=0, atol=0)


@not_finite
@pytest.mark.parametrize("label", [0, 2, 3])
@pytest.mark.parametrize(
    ("backend", "loss_of"),
    [
        *[(x, partial(sigmoid_focal_loss, gamma=0.0)) for x in ("reference", *cases.BACKENDS)],
        *[(x, sigmoid_focal_loss) for x in ("reference", *cases.BACKENDS)],
        *[(x, sigmoid_focal_loss_star) for x in cases.BACKENDS],
    ],
)
def test_nan_and_infinite_logits_reach_the_loss(backend, logits, labels, value, label, loss_of):
    labels[0, 0] = label
    with torch.no_grad():
        logits[0][0, 0, 0, 0] = value
    assert not loss_of(logits, labels, num_classes=3, backend=backend).isfinite()


@cases.every_backend
@pytest.mark.parametrize("num_foreground", [0, 1])
def test_no_object_and_one_object(backend, logits, labels, num_foreground):
    labels.fill_(3)
    labels[0, :num_foreground] = 1
    fused, plain = (cases.focal_loss(logits, labels, name) for name in (backend, "reference"))
    cases.assert_same(fused, plain, logits)


@cases.all_backends
@pytest.mark.parametrize("normalizer", [8, 8.0, torch.tensor(8.0), torch.tensor(8)])
def test_one_normalizer_divides_the_sum_of_the_batch(backend, logits, labels, normalizer):
    loss = cases.focal_loss(logits, labels, backend)
    divided = cases.focal_loss(logits, labels, backend, normalizer=normalizer)
    assert_close(divided, loss / 8)
    assert_close(cases.flat_gradient(divided, logits), cases.flat_gradient(loss, logits) / 8)


@cases.all_backends
def test_one_normalizer_per_image_divides_each_images_sum(backend, logits, labels):
    normalizer = torch.tensor([2.0, 5.0], device=cases.DEVICE)
    loss = cases.focal_loss(logits, labels, backend, normalizer=normalizer)
    alone = sum(
        cases.focal_loss([x[n : n + 1] for x in logits], labels[n : n + 1], backend, normalizer=m)
        for n, m in enumerate([2.0, 5.0])
    )
    cases.assert_same(loss, alone, logits)


@cases.all_backends
def test_alpha_none_is_twice_alpha_one_half(backend, logits, labels):
    unweighted = cases.focal_loss(logits, labels, backend, alpha=None)
    assert_close(unweighted, 2 * cases.focal_loss(logits, labels, backend, alpha=0.5))


@cases.all_backends
@pytest.mark.parametrize("alpha", [[0.25] * 3, torch.full((3,), 0.25)])
def test_equal_alphas_of_each_class_are_one_alpha(backend, logits, labels, alpha):
    loss = cases.focal_loss(logits, labels, backend, alpha=alpha)
    assert_close(loss, cases.focal_loss(logits, labels, backend, alpha=0.25))


@cases.every_backend
def test_logits_in_any_other_layout_are_taken_too(backend, labels):
    logits = cases.make_logits(3)
    expected = cases.focal_loss(logits, labels, backend)
    wide = [torch.stack([x.detach()] * 2, dim=-1).requires_grad_() for x in logits]
    loss = cases.focal_loss([x[..., 0] for x in wide], labels, backend)
    assert torch.equal(loss, expected)
    for g, h in zip(cases.gradients(loss, wide), cases.gradients(expected, logits), strict=True):
        assert torch.equal(g[..., 0], h)


def test_auto_is_the_backend_of_the_device(logits, labels):
    name = {"cuda": cases.BACKENDS[-1]}.get(cases.DEVICE.type, "torch")
    expected = cases.focal_loss(logits, labels, name)
    assert torch.equal(cases.focal_loss(logits, labels, "auto"), expected)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"gamma": -1.0}, "gamma must be at least 0, got -1.0"),
        ({"alpha": 1.5}, "alpha must be in .0, 1., or None for no weights, got 1.5"),
        ({"alpha": [0.5, 0.5]}, "one number for each of 3 classes, got shape .2,."),
        ({"normalizer": 0}, "normalizer must be above 0, got 0"),
        ({"normalizer": torch.ones(3)}, "for each of 2 images, got shape .3,."),
        ({"num_classes": 4}, "K = num_classes = 4, got .2, 9, 4, 3."),
        ({"backend": "fast"}, "backend 'fast'.* is not available"),
        ({"labels": torch.zeros(2, 39).long()}, r"labels must be int64 of shape \(2, 40\)"),
        ({"labels": torch.zeros(2, 40).int()}, r"labels must be int64 of shape \(2, 40\)"),
    ],
)
def test_arguments_that_do_not_fit_are_named(logits, labels, changes, message):
    with pytest.raises(ValueError, match=message):
        sigmoid_focal_loss(logits, **{"labels": labels, "num_classes": 3, **changes})


def test_levels_of_different_dtypes_are_refused(logits, labels):
    with pytest.raises(ValueError, match="one dtype.*torch.bfloat16 on .* beside torch.float32"):
        cases.focal_loss([logits[0], logits[1].bfloat16()], labels, "auto")


def test_focal_loss_star_needs_a_slope(logits, labels):
    with pytest.raises(ValueError, match="gamma of FL. must be above 0, got 0"):
        sigmoid_focal_loss_star(logits, labels, num_classes=3, gamma=0)


def test_the_torch_backend_needs_a_fraction_of_the_references_cpu_time(one_thread):
    logits = [torch.randn(1, 720, s, s).sub(4).requires_grad_() for s in (30, 15, 8)]
    labels = torch.full((1, sum(9 * x.shape[2] ** 2 for x in logits)), 80)

    def cost(backend):
        start = time.process_time()
        sigmoid_focal_loss(logits, labels, num_classes=80, backend=backend).backward()
        return time.process_time() - start

    rounds = [(cost("reference"), cost("torch")) for _ in range(4)][1:]
    assert statistics.median(slow / fast for slow, fast in rounds) > 2
