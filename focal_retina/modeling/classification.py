"""The classification losses, one class each; a detector takes one of them."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from focal_retina.config import focal_retina_node
from focal_retina.errors import require, require_choice
from focal_retina.ops import reference
from focal_retina.ops.focal_loss import sigmoid_focal_loss, sigmoid_focal_loss_star


def build_classification_loss(cfg: CfgNode) -> "ClassificationLoss":
    """Build the loss that ``MODEL.FOCAL_RETINA.CLS_LOSS`` names; UserError for another name."""
    node, gamma = focal_retina_node(cfg), cfg.MODEL.RETINANET.FOCAL_LOSS_GAMMA
    alpha, backend = list(node.CLASS_ALPHA) or focal_loss_alpha(cfg), node.BACKEND
    star = partial(SigmoidFocalLossStar, gamma=gamma, beta=node.FOCAL_STAR_BETA, backend=backend)
    losses: dict[str, Callable[..., ClassificationLoss]] = {
        "focal": partial(SigmoidFocalLoss, alpha=alpha, gamma=gamma, backend=backend),
        "focal_star": star,
        "hinge": partial(HingeLoss, alpha=alpha),
        "softmax_focal": partial(SoftmaxFocalLoss, alpha=alpha, gamma=gamma),
    }
    require_choice("MODEL.FOCAL_RETINA.CLS_LOSS", node.CLS_LOSS, losses)
    return losses[node.CLS_LOSS](num_classes=cfg.MODEL.RETINANET.NUM_CLASSES)


def focal_loss_alpha(cfg: CfgNode) -> float | None:
    """Return alpha; None for a negative key, which turns weighting off in Detectron2."""
    alpha = cfg.MODEL.RETINANET.FOCAL_LOSS_ALPHA
    return alpha if alpha >= 0 else None


class ClassificationLoss(nn.Module):
    """What the losses below share; each has a ``formula`` for the loss of one element.

    Args:
        num_classes: K.
        alpha: weight of foreground in [0, 1], one number or one per class; None: no weighting.
        gamma: focusing parameter, >= 0.

    Raises:
        UserError: an argument is out of its range.
    """

    alpha: float | Tensor | None
    formula: Callable[..., Tensor]

    def __init__(
        self,
        *,
        num_classes: int,
        alpha: float | Sequence[float] | None = 0.25,
        gamma: float = 2.0,
    ):
        super().__init__()
        require(gamma >= 0, "gamma (MODEL.RETINANET.FOCAL_LOSS_GAMMA)", gamma, "be at least 0")
        self.num_classes, self.gamma = num_classes, gamma
        if alpha is None or isinstance(alpha, int | float):
            name = "alpha (MODEL.RETINANET.FOCAL_LOSS_ALPHA)"
            require(alpha is None or 0 <= alpha <= 1, name, alpha, "lie in [0, 1]")
            self.alpha = alpha
            return
        is_right = len(alpha) == num_classes and all(0 <= value <= 1 for value in alpha)
        limit = f"be one number in [0, 1] for each of {num_classes} classes"
        require(is_right, "alpha (MODEL.FOCAL_RETINA.CLASS_ALPHA)", alpha, limit)
        # A setting, not a result of training: not in the checkpoint.
        self.register_buffer("alpha", torch.tensor(list(alpha)), persistent=False)

    def forward(self, logits: list[Tensor], gt_labels: Tensor, normalizer: Tensor) -> Tensor:
        """Return the loss, 0-dim float32.

        Args:
            logits: L x (N, A*K, H, W).
            gt_labels: (N, R), int64.
            normalizer: divides the sum of all losses, 0-dim, or of each image's, (N,).
        """
        return reference.normalized_sum(self.anchor_losses(logits, gt_labels), normalizer)

    def anchor_losses(self, logits: list[Tensor], gt_labels: Tensor) -> Tensor:
        """Return the loss of each anchor, (N, R); 0 for ignored ones."""
        num_classes = self.num_classes
        return reference.anchor_losses(self.formula, logits, gt_labels, num_classes=num_classes)


class SigmoidFocalLoss(ClassificationLoss):
    """Focal loss on independent classes (paper Eq. 5); gamma 0 is the cross entropy.

    Args:
        num_classes, alpha, gamma: see :class:`ClassificationLoss`.
        backend: see ``ops.backend.resolve_backend``.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        alpha: float | Sequence[float] | None = 0.25,
        gamma: float = 2.0,
        backend: str = "auto",
    ):
        super().__init__(num_classes=num_classes, alpha=alpha, gamma=gamma)
        self.backend = backend

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

    def formula(self, logits: Tensor, targets: Tensor) -> Tensor:
        return reference.focal_loss(logits, targets, alpha=self.alpha, gamma=self.gamma)


class SigmoidFocalLossStar(ClassificationLoss):
    """FL* on independent classes (paper appendix A), with slope ``gamma`` > 0 and shift ``beta``.

    It has no alpha. ``backend``: see ``ops.backend.resolve_backend``.
    """

    def __init__(
        self, *, num_classes: int, gamma: float = 2.0, beta: float = 1.0, backend: str = "auto"
    ):
        require(gamma > 0, "gamma of FL* (MODEL.RETINANET.FOCAL_LOSS_GAMMA)", gamma, "be above 0")
        super().__init__(num_classes=num_classes, alpha=None, gamma=gamma)
        self.beta, self.backend = beta, backend

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

    def formula(self, logits: Tensor, targets: Tensor) -> Tensor:
        return reference.focal_loss_star(logits, targets, gamma=self.gamma, beta=self.beta)


class HingeLoss(ClassificationLoss):
    """Hinge on p_t, 0 above a threshold in (0, 1]; the paper found it unstable (Sec. 5.1)."""

    def __init__(
        self,
        *,
        num_classes: int,
        alpha: float | Sequence[float] | None = 0.25,
        threshold: float = 0.5,
    ):
        super().__init__(num_classes=num_classes, alpha=alpha)
        require(0 < threshold <= 1, "threshold of the hinge loss", threshold, "lie in (0, 1]")
        self.threshold = threshold

    def formula(self, logits: Tensor, targets: Tensor) -> Tensor:
        return reference.hinge_loss(logits, targets, alpha=self.alpha, threshold=self.threshold)


class SoftmaxFocalLoss(ClassificationLoss):
    """Focal loss on the softmax over K classes and background, as in the authors' code.

    Takes logits L x (N, A*(K+1), H, W), background last: ``FocalRetinaHead`` and
    ``DetectionPostprocessor`` need ``background_logit=True``. The weight of background is 1 minus
    the mean alpha of the classes.
    """

    def anchor_losses(self, logits: list[Tensor], gt_labels: Tensor) -> Tensor:
        num_logits = self.num_classes + 1
        return reference.label_losses(self.formula, logits, gt_labels, num_logits=num_logits)

    def formula(self, logits: Tensor, labels: Tensor) -> Tensor:
        return reference.softmax_focal_loss(logits, labels, alpha=self.alpha, gamma=self.gamma)
