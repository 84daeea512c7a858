"""The classification losses, one class each; a detector takes one of them.

Each is called with logits, L x (N, A*K, H, W), ``gt_labels`` (N, R) and a normaliser, 0-dim or
(N,), and returns a 0-dim float32 loss. ``anchor_losses(logits, gt_labels)`` returns the loss of
each anchor, (N, R), 0 for ignored ones.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from focal_retina.config import focal_retina_node
from focal_retina.errors import UserError
from focal_retina.ops import reference
from focal_retina.ops.focal_loss import sigmoid_focal_loss, sigmoid_focal_loss_star

CLS_LOSSES = ("focal", "focal_star", "hinge", "softmax_focal")


def build_classification_loss(cfg: CfgNode) -> nn.Module:
    """Build the loss that ``MODEL.FOCAL_RETINA.CLS_LOSS`` names; UserError for another name."""
    retinanet, node = cfg.MODEL.RETINANET, focal_retina_node(cfg)
    # A negative alpha turns weighting off in Detectron2.
    alpha = retinanet.FOCAL_LOSS_ALPHA if retinanet.FOCAL_LOSS_ALPHA >= 0 else None
    num_classes, gamma = retinanet.NUM_CLASSES, retinanet.FOCAL_LOSS_GAMMA
    balanced = {"num_classes": num_classes, "alpha": list(node.CLASS_ALPHA) or alpha}
    match node.CLS_LOSS:
        case "focal":
            return SigmoidFocalLoss(**balanced, gamma=gamma, backend=node.BACKEND)
        case "focal_star":
            return SigmoidFocalLossStar(
                num_classes=num_classes,
                gamma=gamma,
                beta=node.FOCAL_STAR_BETA,
                backend=node.BACKEND,
            )
        case "hinge":
            return HingeLoss(**balanced)
        case "softmax_focal":
            return SoftmaxFocalLoss(**balanced, gamma=gamma)
    raise UserError(
        f"MODEL.FOCAL_RETINA.CLS_LOSS is {node.CLS_LOSS!r}; choose one of {', '.join(CLS_LOSSES)}"
    )


class SigmoidFocalLoss(nn.Module):
    """Focal loss on independent classes (paper Eq. 5); gamma 0 is the cross entropy.

    Args:
        num_classes: K.
        alpha: weight of foreground in [0, 1], one number or one per class; None: no weighting.
        gamma: focusing parameter, >= 0.
        backend: see ``ops.backend.resolve_backend``.
    """

    alpha: float | Tensor | None

    def __init__(
        self,
        *,
        num_classes: int,
        alpha: float | Sequence[float] | None = 0.25,
        gamma: float = 2.0,
        backend: str = "auto",
    ):
        super().__init__()
        _check_gamma(gamma)
        self.num_classes, self.gamma, self.backend = num_classes, gamma, backend
        _set_alpha(self, alpha, num_classes)

    def forward(self, logits: list[Tensor], gt_labels: Tensor, normalizer: Tensor) -> Tensor:
        return sigmoid_focal_loss(
            logits,
            gt_labels,
            num_classes=self.num_classes,
            alpha=self.alpha,
            gamma=self.gamma,
            normalizer=normalizer,
            backend=self.backend,
        )

    def anchor_losses(self, logits: list[Tensor], gt_labels: Tensor) -> Tensor:
        loss = partial(reference.focal_loss, alpha=self.alpha, gamma=self.gamma)
        return reference.anchor_losses(loss, logits, gt_labels, num_classes=self.num_classes)


class SigmoidFocalLossStar(nn.Module):
    """FL* on independent classes (paper appendix A); it has no alpha.

    Args:
        num_classes: K.
        gamma: slope, > 0.
        beta: shift.
        backend: see ``ops.backend.resolve_backend``.
    """

    def __init__(
        self, *, num_classes: int, gamma: float = 2.0, beta: float = 1.0, backend: str = "auto"
    ):
        super().__init__()
        if not gamma > 0:
            raise UserError(
                f"gamma of FL* (MODEL.RETINANET.FOCAL_LOSS_GAMMA) is {gamma}; it must be above 0"
            )
        self.num_classes, self.gamma, self.beta = num_classes, gamma, beta
        self.backend = backend

    def forward(self, logits: list[Tensor], gt_labels: Tensor, normalizer: Tensor) -> Tensor:
        return sigmoid_focal_loss_star(
            logits,
            gt_labels,
            num_classes=self.num_classes,
            gamma=self.gamma,
            beta=self.beta,
            normalizer=normalizer,
            backend=self.backend,
        )

    def anchor_losses(self, logits: list[Tensor], gt_labels: Tensor) -> Tensor:
        loss = partial(reference.focal_loss_star, gamma=self.gamma, beta=self.beta)
        return reference.anchor_losses(loss, logits, gt_labels, num_classes=self.num_classes)


class HingeLoss(nn.Module):
    """Hinge on p_t, 0 above a threshold, which the paper found unstable (Sec. 5.1).

    Args:
        num_classes, alpha: as of :class:`SigmoidFocalLoss`.
        threshold: p_t from which the loss is 0, in (0, 1]; the paper gives none.
    """

    alpha: float | Tensor | None

    def __init__(
        self,
        *,
        num_classes: int,
        alpha: float | Sequence[float] | None = 0.25,
        threshold: float = 0.5,
    ):
        super().__init__()
        if not 0 < threshold <= 1:
            raise UserError(f"threshold of the hinge loss is {threshold}; it must lie in (0, 1]")
        self.num_classes, self.threshold = num_classes, threshold
        _set_alpha(self, alpha, num_classes)

    def forward(self, logits: list[Tensor], gt_labels: Tensor, normalizer: Tensor) -> Tensor:
        return reference.normalized_sum(self.anchor_losses(logits, gt_labels), normalizer)

    def anchor_losses(self, logits: list[Tensor], gt_labels: Tensor) -> Tensor:
        loss = partial(reference.hinge_loss, alpha=self.alpha, threshold=self.threshold)
        return reference.anchor_losses(loss, logits, gt_labels, num_classes=self.num_classes)


class SoftmaxFocalLoss(nn.Module):
    """Focal loss on the softmax over K classes and background, as in the authors' code.

    Takes logits L x (N, A*(K+1), H, W), background last: ``FocalRetinaHead`` and
    ``DetectionPostprocessor`` need ``background_logit=True``.

    Args:
        num_classes, gamma: as of :class:`SigmoidFocalLoss`.
        alpha: as there; the weight of background is 1 minus the mean over classes.
    """

    alpha: float | Tensor | None

    def __init__(
        self,
        *,
        num_classes: int,
        alpha: float | Sequence[float] | None = 0.25,
        gamma: float = 2.0,
    ):
        super().__init__()
        _check_gamma(gamma)
        self.num_classes, self.gamma = num_classes, gamma
        _set_alpha(self, alpha, num_classes)

    def forward(self, logits: list[Tensor], gt_labels: Tensor, normalizer: Tensor) -> Tensor:
        return reference.normalized_sum(self.anchor_losses(logits, gt_labels), normalizer)

    def anchor_losses(self, logits: list[Tensor], gt_labels: Tensor) -> Tensor:
        loss = partial(reference.softmax_focal_loss, alpha=self.alpha, gamma=self.gamma)
        return reference.label_losses(loss, logits, gt_labels, num_logits=self.num_classes + 1)


def _check_gamma(gamma: float) -> None:
    if not gamma >= 0:
        raise UserError(
            f"gamma (MODEL.RETINANET.FOCAL_LOSS_GAMMA) is {gamma}; it must be at least 0"
        )


def _set_alpha(module: Any, alpha: float | Sequence[float] | None, num_classes: int) -> None:
    """Set ``module.alpha``: a number, None, or a buffer (K,) that moves with the module."""
    if alpha is None or isinstance(alpha, int | float):
        if alpha is not None and not 0 <= alpha <= 1:
            raise UserError(
                f"alpha (MODEL.RETINANET.FOCAL_LOSS_ALPHA) is {alpha}; it must lie in [0, 1]"
            )
        module.alpha = alpha
        return
    if len(alpha) != num_classes or not all(0 <= value <= 1 for value in alpha):
        raise UserError(
            f"alpha (MODEL.FOCAL_RETINA.CLASS_ALPHA) is {alpha}; give one number in [0, 1] for "
            f"each of {num_classes} classes"
        )
    # A setting, not a result of training: not in the checkpoint.
    module.register_buffer("alpha", torch.tensor(list(alpha)), persistent=False)
