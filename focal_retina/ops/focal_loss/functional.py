"""The classification losses on the outputs of a head: checks, and choice of backend."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from focal_retina.errors import UserError
from focal_retina.ops import reference
from focal_retina.ops.backend import resolve_backend
from focal_retina.ops.focal_loss.autograd import fused_loss
from focal_retina.ops.focal_loss.form import LossForm, LossTargets
from focal_retina.ops.memory import memory_format


def sigmoid_focal_loss(
    logits: Sequence[Tensor],
    labels: Tensor,
    *,
    num_classes: int,
    alpha: float | Sequence[float] | Tensor | None = 0.25,
    gamma: float = 2.0,
    normalizer: float | Tensor = 1.0,
    backend: str = "auto",
) -> Tensor:
    """Return the focal loss (paper Eq. 5), summed over classes and anchors and normalised.

    The fused backends "torch" and "triton" need a few MiB beyond the gradient. They cannot be
    differentiated twice; "reference" can. Their gradient is finite for saturated logits with gamma
    below 1, where that of the reference and of fvcore is not. A NaN or infinite logit makes the
    loss NaN or infinite, unless its anchor is ignored.

    Args:
        logits: L x (N, A*K, H, W), contiguous or channels_last (others are copied); float32,
            bfloat16 or float16, computed in float32 and rounded once. "reference" and "torch" also
            take float64. A may differ between levels.
        labels: (N, R) int64, R = sum of H*W*A in the order level, y, x, anchor: the class
            0..K-1, K for background, -1 for ignored.
        num_classes: K.
        alpha: weight of foreground in [0, 1], one number or one per class; background has
            1 - alpha. None: all weights are 1. A sequence is copied to a GPU at every call.
        gamma: exponent of the modulating factor, at least 0; 0 is the cross entropy.
        normalizer: divisor, above 0: one for the batch (a number or a 0-dim tensor) or one per
            image (N,). It receives no gradient.
        backend: see :func:`.backend.resolve_backend`. "reference" with one normaliser has, bit
            for bit, the loss and gradient of Detectron2's RetinaNet with fvcore's
            ``sigmoid_focal_loss``.

    Returns:
        0-dim float32 (float64 for float64 logits).

    Raises ValueError for an argument that is out of range or does not fit the others, UserError for
    an unavailable backend.
    """
    if not gamma >= 0:
        raise ValueError(f"gamma must be at least 0, got {gamma}")
    weights = _class_weights(alpha, num_classes, labels.device)
    if not (alpha is None or isinstance(alpha, int | float)):
        alpha = weights[0].to(reference.loss_dtype(logits[0]))
    elementwise = partial(reference.focal_loss, alpha=alpha, gamma=gamma)
    form = LossForm(exponent=float(gamma), slope=1.0, offset=0.0)
    return _loss(logits, labels, weights, normalizer, form, elementwise, backend)


def sigmoid_focal_loss_star(
    logits: Sequence[Tensor],
    labels: Tensor,
    *,
    num_classes: int,
    gamma: float = 2.0,
    beta: float = 1.0,
    normalizer: float | Tensor = 1.0,
    backend: str = "auto",
) -> Tensor:
    """Return the loss FL* (paper appendix A), normalised as in :func:`sigmoid_focal_loss`.

    FL* = -log(sigmoid(gamma x_t + beta)) / gamma with x_t = y x, gamma above 0. It has no alpha.
    fvcore's ``sigmoid_focal_loss_star`` is the case beta 0. The other arguments are as there.
    """
    if not gamma > 0:
        raise ValueError(f"gamma of FL* must be above 0, got {gamma}")
    weights = _class_weights(None, num_classes, labels.device)
    elementwise = partial(reference.focal_loss_star, gamma=gamma, beta=beta)
    form = LossForm(exponent=0.0, slope=float(gamma), offset=float(beta))
    return _loss(logits, labels, weights, normalizer, form, elementwise, backend)


def _loss(
    logits: Sequence[Tensor],
    labels: Tensor,
    weights: Tensor,
    normalizer: float | Tensor,
    form: LossForm,
    elementwise: reference.Formula,
    backend: str,
) -> Tensor:
    num_classes, dtype = weights.shape[1], reference.loss_dtype(logits[0])
    _check(logits, labels, num_classes)
    normalizer = _checked_normalizer(normalizer, labels, dtype)
    backend = resolve_backend(backend, labels.device)
    if backend == "reference":
        return reference.dense_loss(
            elementwise, logits, labels, num_classes=num_classes, normalizer=normalizer
        )
    if backend == "triton" and dtype == torch.float64:
        raise UserError("backend 'triton' has no float64; use 'torch' or 'reference'")
    if not isinstance(normalizer, Tensor):
        normalizer = weights.new_full((), normalizer)
    scale = normalizer.double().reciprocal().expand(len(labels))
    logits = [x.contiguous(memory_format=memory_format(x)) for x in logits]
    return fused_loss(logits, LossTargets(labels, weights, scale, form), backend)


def _check(logits: Sequence[Tensor], labels: Tensor, num_classes: int) -> None:
    expected = 0
    for x in logits:
        n, channels, h, w = x.shape
        if channels % num_classes:
            raise ValueError(
                f"logits must be (N, A*K, H, W) with K = num_classes = {num_classes}, got "
                f"{tuple(x.shape)}"
            )
        if x.device != labels.device or x.dtype != logits[0].dtype:
            raise ValueError(
                f"logits must have one dtype and be where the labels are, on {labels.device}; "
                f"got {x.dtype} on {x.device} beside {logits[0].dtype}"
            )
        expected += channels // num_classes * h * w
    if labels.dtype != torch.int64 or labels.shape != (n, expected):
        raise ValueError(
            f"labels must be int64 of shape {(n, expected)} to fit the logits, got {labels.dtype} "
            f"of shape {tuple(labels.shape)}"
        )


def _class_weights(
    alpha: float | Sequence[float] | Tensor | None, num_classes: int, device: torch.device
) -> Tensor:
    """Return the weights of foreground and background for each class, (2, K) float64."""
    if alpha is None:
        return torch.ones(2, num_classes, dtype=torch.float64, device=device)
    if isinstance(alpha, int | float):
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], or None for no weights, got {alpha}")
        alpha = torch.full((num_classes,), alpha, dtype=torch.float64, device=device)
    alpha = torch.as_tensor(alpha, dtype=torch.float64, device=device)
    if alpha.shape != (num_classes,):
        raise ValueError(
            f"alpha must be a number or one number for each of {num_classes} classes, got shape "
            f"{tuple(alpha.shape)}"
        )
    return torch.stack([alpha, 1 - alpha])


def _checked_normalizer(
    normalizer: float | Tensor, labels: Tensor, dtype: torch.dtype
) -> float | Tensor:
    if not isinstance(normalizer, Tensor):
        if normalizer <= 0:
            raise ValueError(f"normalizer must be above 0, got {normalizer}")
        return normalizer
    if normalizer.shape not in ((), labels.shape[:1]):
        raise ValueError(
            f"normalizer must be one number or one for each of {len(labels)} images, got shape "
            f"{tuple(normalizer.shape)}"
        )
    return normalizer.detach().to(labels.device, dtype, non_blocking=True)
