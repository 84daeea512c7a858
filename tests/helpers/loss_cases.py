"""Logits and labels for the tests of the classification losses, and the backends on trial."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from focal_retina.ops import reference
from focal_retina.ops.backend import available_backends
from focal_retina.ops.focal_loss import sigmoid_focal_loss, sigmoid_focal_loss_star

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# "triton" takes part on CUDA, or in a process with TRITON_INTERPRET=1: test_triton_backend.py.
BACKENDS = [name for name in ("torch", "triton") if name in available_backends(DEVICE)]
SPECIALS = torch.tensor([1e4, -1e4, 100.0, -100.0, 30.0, -30.0, 15.0, -15.0, 1.0, 0.0])

every_backend = pytest.mark.parametrize("backend", BACKENDS)
all_backends = pytest.mark.parametrize("backend", ["reference", *BACKENDS])
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
both_layouts = pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"]
)


def make_logits(num_classes, *, layout=torch.contiguous_format, dtype=torch.float32, images=2):
    """Return leaves: two levels with 3 and 2 anchors, some logits of the first level extreme."""
    generator = torch.Generator().manual_seed(num_classes)
    logits = []
    for anchors, *size in [(3, 4, 3), (2, 1, 2)]:
        x = torch.randn(images, anchors * num_classes, *size, generator=generator) * 3 - 2
        logits.append(x)
    logits[0].view(-1)[: len(SPECIALS)] = SPECIALS
    return [x.to(DEVICE, dtype).contiguous(memory_format=layout).requires_grad_() for x in logits]


def make_labels(logits, num_classes, *, foreground=0.3, ignored=0.2):
    """Return labels (N, R), drawn with the given shares."""
    num_anchors = sum(x[0].numel() // num_classes for x in logits)
    generator = torch.Generator().manual_seed(1)
    shape = len(logits[0]), num_anchors
    draw = torch.rand(shape, generator=generator)
    classes = torch.randint(0, num_classes, shape, generator=generator)
    labels = torch.where(draw < foreground, classes, num_classes)
    return torch.where(draw > 1 - ignored, -1, labels).to(DEVICE)


def focal_loss(logits, labels, backend, **kwargs):
    """Return the focal loss of three classes."""
    return sigmoid_focal_loss(logits, labels, num_classes=3, backend=backend, **kwargs)


def gradients(loss, logits):
    """Return the gradient of a loss for each level, without freeing the graph."""
    return torch.autograd.grad(loss, logits, retain_graph=True)


def flat_gradient(loss, logits, num_classes=3):
    """Return the gradient as (N, R, K)."""
    return reference.flatten_logits(gradients(loss, logits), num_classes)


def with_gradient(loss, logits, num_classes=3):
    """Return a loss and its gradient, to compare both at once."""
    return loss, flat_gradient(loss, logits, num_classes)


def assert_same(loss, expected, logits, num_classes=3, **tolerance):
    """Compare two losses of the same logits, and their gradients."""
    pairs = (with_gradient(x, logits, num_classes) for x in (loss, expected))
    torch.testing.assert_close(*pairs, **tolerance)


def focal_loss_gradient(logits, targets, *, alpha, gamma):
    """Return alpha_t dFL/dx, dFL/dx = y (1 - p_t)^gamma (gamma p_t log(p_t) + p_t - 1) (app. B).

    Finite for every finite logit, unlike the automatic derivative where gamma < 1 and p_t is 1.
    """
    y = 2 * targets - 1
    x_t = y * logits
    miss = torch.sigmoid(-x_t)  # 1 - p_t without its cancellation
    gradient = y * miss**gamma * (gamma * torch.sigmoid(x_t) * F.logsigmoid(x_t) - miss)
    return gradient if alpha is None else reference.balance(targets, alpha) * gradient


def focal_loss_star_gradient(logits, targets, *, gamma, beta):
    """Return dFL*/dx = y (p*_t - 1), p*_t = sigmoid(gamma x_t + beta) (paper appendix B)."""
    y = 2 * targets - 1
    return -y * torch.sigmoid(-(gamma * y * logits + beta))


def focal_loss_form(**form):
    """Return the loss of a head of this alpha and gamma, and the formulas of loss and gradient."""
    functions = sigmoid_focal_loss, reference.focal_loss, focal_loss_gradient
    return [partial(f, **form) for f in functions]


def focal_loss_star_form(**form):
    """Return the same of FL* of this gamma and beta."""
    functions = sigmoid_focal_loss_star, reference.focal_loss_star, focal_loss_star_gradient
    return [partial(f, **form) for f in functions]
