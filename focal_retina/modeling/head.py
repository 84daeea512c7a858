"""The two subnets, shared over levels (paper Sec. 4, Fig. 3c and 3d)."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from detectron2.config import CfgNode, configurable
from detectron2.layers import CycleBatchNormList, ShapeSpec, get_norm
from detectron2.modeling.anchor_generator import build_anchor_generator
from detectron2.modeling.proposal_generator.rpn import RPN_HEAD_REGISTRY
from torch import Tensor, nn

from focal_retina.detectron2_internals import Unscriptable
from focal_retina.errors import UserError, require
from focal_retina.registry import register

BATCH_NORMS = {"BN": nn.BatchNorm2d, "SyncBN": nn.SyncBatchNorm}


@register(RPN_HEAD_REGISTRY)
class FocalRetinaHead(Unscriptable, nn.Module):
    """Class logits and box deltas for every anchor of every level.

    Built from a config through the RPN head registry, it has one class, as a first stage needs.
    Parameter names and initialisation are those of Detectron2's ``RetinaNetHead``: Gaussian of
    sigma .01 and bias 0, class bias ``-log((1 - prior_prob) / prior_prob)`` (paper Sec. 4.1).

    Args:
        input_shape: one ``ShapeSpec`` per level, with equal numbers of channels.
        num_classes: K >= 1.
        num_anchors: A, anchors per location: a number, or one per level, which must be equal.
        conv_dims: output channels of the 3x3 convolutions of each subnet.
        norm: normalisation between convolution and ReLU: "" (the paper) or any of Detectron2's.
            "BN" and "SyncBN" keep separate statistics for each level.
        prior_prob: pi, the foreground probability that every anchor starts with, in (0, 1).
        background_logit: have K + 1 logits for each anchor, the last for background, as
            ``SoftmaxFocalLoss`` needs. Then pi is the probability of all classes together, as in
            the authors' code.

    Raises:
        UserError: an argument out of its range, or levels with different numbers of anchors.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: Sequence[ShapeSpec],
        num_classes: int,
        num_anchors: int | Sequence[int],
        conv_dims: Sequence[int] = (256, 256, 256, 256),
        norm: str = "",
        prior_prob: float = 0.01,
        background_logit: bool = False,
    ):
        super().__init__()
        num_anchors = _single_count(num_anchors)
        name = "num_classes (MODEL.RETINANET.NUM_CLASSES)"
        require(num_classes >= 1, name, num_classes, "be at least 1")
        name = "prior_prob (MODEL.RETINANET.PRIOR_PROB)"
        require(0 < prior_prob < 1, name, prior_prob, "lie between 0 and 1")
        channels = [input_shape[0].channels, *conv_dims]
        self.cls_subnet = _subnet(channels, norm, len(input_shape))
        self.bbox_subnet = _subnet(channels, norm, len(input_shape))
        num_logits = num_classes + background_logit
        self.cls_score = nn.Conv2d(channels[-1], num_anchors * num_logits, 3, padding=1)
        self.bbox_pred = nn.Conv2d(channels[-1], num_anchors * 4, 3, padding=1)
        for conv in (m for m in self.modules() if isinstance(m, nn.Conv2d)):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.get_parameter("bias"))
        background_log_odds = math.log((1 - prior_prob) / prior_prob)
        biases = self.cls_score.get_parameter("bias").detach().view(num_anchors, num_logits)
        if background_logit:
            nn.init.constant_(biases[:, -1], background_log_odds + math.log(num_classes))
        else:
            nn.init.constant_(biases, -background_log_odds)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        return {
            "input_shape": input_shape,
            "num_classes": 1,
            "num_anchors": build_anchor_generator(cfg, input_shape).num_anchors,
            "conv_dims": [input_shape[0].channels] * cfg.MODEL.RETINANET.NUM_CONVS,
            "norm": cfg.MODEL.RETINANET.NORM,
            "prior_prob": cfg.MODEL.RETINANET.PRIOR_PROB,
        }

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return logits, L x (N, A*K, H, W), and deltas, L x (N, A*4, H, W).

        Args:
            features: L x (N, C, H, W), float, fine to coarse.
        """
        logits = _apply([*self.cls_subnet, self.cls_score], features)
        return logits, _apply([*self.bbox_subnet, self.bbox_pred], features)


def _apply(layers: Iterable[nn.Module], features: list[Tensor]) -> list[Tensor]:
    """Apply each layer to all levels before the next, so that its weights stay in the caches."""
    for layer in layers:
        features = [layer(x) for x in features]
    return features


def _single_count(num_anchors: int | Sequence[int]) -> int:
    counts = [num_anchors] if isinstance(num_anchors, int) else list(num_anchors)
    if len(set(counts)) == 1:
        return counts[0]
    raise UserError(
        f"the levels have {counts} anchors per location, but the head's weights are shared over "
        "levels; give every level as many MODEL.ANCHOR_GENERATOR.SIZES and ASPECT_RATIOS as the "
        "others"
    )


def _subnet(channels: Sequence[int], norm: str, num_levels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for in_channels, out_channels in pairwise(channels):
        layers.append(nn.Conv2d(in_channels, out_channels, 3, padding=1))
        if norm in BATCH_NORMS:
            # Levels differ in statistics: each has its own, which take turns in their order.
            bn_class = BATCH_NORMS[norm]
            layers.append(CycleBatchNormList(num_levels, bn_class, num_features=out_channels))
        elif norm:
            layers.append(get_norm(norm, out_channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
