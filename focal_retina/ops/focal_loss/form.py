"""The formula of the fused backends, and the arguments that they take.

They know one family of losses. A background logit x costs

    s^exponent * softplus(u) / slope,    u = slope * x - offset,    s = sigmoid(u),

with the derivative s^exponent * (s + exponent * (1 - s) * softplus(u)). A foreground logit x costs
what a background logit -x costs.
"""

from typing import NamedTuple

from torch import Tensor


class LossForm(NamedTuple):
    """A member of the family: (gamma, 1, 0) is the focal loss, (0, gamma, beta) is FL*."""

    exponent: float
    slope: float
    offset: float


class LossTargets(NamedTuple):
    """What a fused backend needs besides the logits, L x (N, A*K, H, W)."""

    labels: Tensor  # (N, R) int64: -1 ignore, 0..K-1 class, K background
    weights: Tensor  # (2, K) float64, of foreground and of background
    scale: Tensor  # (N,) float64, factor of the loss of each image
    form: LossForm
