"""The classification losses, equation by equation, in plain PyTorch: the truth in tests.

Legend: ``logits`` x and ``targets`` t have one shape; t is 1 for the class of the anchor's object
and 0 elsewhere (the paper's y is 2t - 1). The functions of single elements take float32, or float64
in tests; those of a whole head compute lower precisions in float32.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# From logits and their targets, or labels, to losses.
Formula = Callable[[Tensor, Tensor], Tensor]


def probability(logits: Tensor, targets: Tensor) -> Tensor:
    """Return p_t, the probability given to what is true (paper Eq. 2)."""
    p = torch.sigmoid(logits)
    return p * targets + (1 - p) * (1 - targets)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return CE = -log(p_t) (paper Eq. 1)."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def balance(targets: Tensor, alpha: float | Tensor) -> Tensor:
    """Return alpha_t: alpha for foreground, 1 - alpha for background (paper Eq. 3)."""
    return alpha * targets + (1 - alpha) * (1 - targets)


def focal_loss(
    logits: Tensor, targets: Tensor, *, alpha: float | Tensor | None, gamma: float
) -> Tensor:
    """Return FL = -alpha_t (1 - p_t)^gamma log(p_t) of every element (paper Eq. 5).

    gamma 0 is the alpha-balanced cross entropy, Eq. 3. ``alpha`` None leaves alpha_t out (Eq. 4);
    a tensor is broadcast over the last dimension, the classes. The order of operations is
    fvcore's ``sigmoid_focal_loss``, so that both are equal bit for bit.
    """
    loss = cross_entropy(logits, targets) * ((1 - probability(logits, targets)) ** gamma)
    return loss if alpha is None else balance(targets, alpha) * loss


def focal_loss_star(logits: Tensor, targets: Tensor, *, gamma: float, beta: float) -> Tensor:
    """Return FL* = -log(sigmoid(gamma x_t + beta)) / gamma, x_t = y x (paper appendix A)."""
    return -F.logsigmoid(gamma * (logits * (2 * targets - 1)) + beta) / gamma


def hinge_loss(
    logits: Tensor, targets: Tensor, *, alpha: float | Tensor | None, threshold: float
) -> Tensor:
    """Return alpha_t max(0, threshold - p_t), 0 for p_t above the threshold (paper Sec. 5.1)."""
    loss = (threshold - probability(logits, targets)).clamp(min=0)
    return loss if alpha is None else balance(targets, alpha) * loss


def softmax_focal_loss(
    logits: Tensor, labels: Tensor, *, alpha: float | Tensor | None, gamma: float
) -> Tensor:
    """Return -alpha_t (1 - p_t)^gamma log(p_t), p_t the softmax probability of the anchor's label.

    Args:
        logits: (..., K + 1), background last.
        labels: (...), int64, 0..K.
        alpha: of foreground, one number or one per class, (K,); background has 1 minus their
            mean. None: all weights are 1.
        gamma: at least 0.

    Source: the authors' code, where background comes first.
    """
    log_p_t = logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    # With gamma < 1 the power has no derivative at 0.
    miss = (-torch.expm1(log_p_t)).clamp(min=torch.finfo(logits.dtype).tiny)
    loss = -(miss**gamma) * log_p_t
    if alpha is None:
        return loss
    num_classes = logits.shape[-1] - 1
    alpha = torch.as_tensor(alpha, dtype=loss.dtype, device=loss.device).expand(num_classes)
    return torch.cat([alpha, 1 - alpha.mean()[None]])[labels] * loss


def loss_dtype(logits: Tensor) -> torch.dtype:
    """Return the dtype of the loss of a head's logits: float64 for float64, else float32."""
    return torch.promote_types(logits.dtype, torch.float32)


def flatten_logits(logits: Sequence[Tensor], num_classes: int) -> Tensor:
    """Return the head's outputs, L tensors (N, A*K, H, W), as (N, R, K) in anchor order."""
    levels = [x.unflatten(1, (-1, num_classes)).permute(0, 3, 4, 1, 2) for x in logits]
    return torch.cat([x.flatten(1, 3) for x in levels], dim=1)  # levels: (N, H, W, A, K)


def dense_loss(
    elementwise: Formula,
    logits: Sequence[Tensor],
    labels: Tensor,
    *,
    num_classes: int,
    normalizer: float | Tensor,
) -> Tensor:
    """Sum ``elementwise(logits, targets)`` over classes and anchors and divide by ``normalizer``.

    One normaliser divides the sum over the whole batch, as in Detectron2's ``RetinaNet.losses``;
    (N,) normalisers divide the sums of the images. See :func:`.focal_loss.sigmoid_focal_loss` for
    the arguments. Keeps about six tensors of the size of the logits.
    """
    groups: Iterable[tuple] = [(logits, labels, normalizer)]
    if isinstance(normalizer, Tensor) and normalizer.dim() == 1:
        images = ([x[n : n + 1] for x in logits] for n in range(len(labels)))
        groups = zip(images, labels.split(1), normalizer, strict=True)
    losses = []
    for levels, y, divisor in groups:
        x = flatten_logits(levels, num_classes)[y >= 0]
        x = x.to(loss_dtype(x))
        losses.append(elementwise(x, _targets(x, y[y >= 0])).sum() / divisor)
    return torch.stack(losses).sum()


def anchor_losses(
    elementwise: Formula, logits: Sequence[Tensor], labels: Tensor, *, num_classes: int
) -> Tensor:
    """Return the sum of ``elementwise(logits, targets)`` over classes, (N, R); 0 if ignored."""

    def of_anchors(x: Tensor, labels: Tensor) -> Tensor:
        return elementwise(x, _targets(x, labels)).sum(-1)

    return label_losses(of_anchors, logits, labels, num_logits=num_classes)


def label_losses(
    loss: Formula, logits: Sequence[Tensor], labels: Tensor, *, num_logits: int
) -> Tensor:
    """Return the loss of each anchor, (N, R); 0 if ignored.

    ``loss`` takes logits (R, num_logits) and labels (R,) of an image, and returns losses (R,).
    """
    losses = []
    for n, image_labels in enumerate(labels):
        x = flatten_logits([x[n : n + 1] for x in logits], num_logits)[0]
        image_losses = loss(x.to(loss_dtype(x)), image_labels.clamp(min=0))
        losses.append(image_losses.masked_fill(image_labels < 0, 0))
    return torch.stack(losses)


def normalized_sum(losses: Tensor, normalizer: float | Tensor) -> Tensor:
    """Return the sum of (N, R) losses over one normaliser, or each image's over its own, (N,)."""
    if isinstance(normalizer, Tensor):
        normalizer = normalizer.to(losses.dtype)
    return (losses.sum(1) / normalizer).sum()


def _targets(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the targets of logits (..., K); those of background, label K, are all 0."""
    return F.one_hot(labels, logits.shape[-1] + 1)[..., :-1].to(logits.dtype)
