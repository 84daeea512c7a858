"""Cases of the focal loss, forward and backward."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from detectron2.layers import cat
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from fvcore.nn import sigmoid_focal_loss_jit
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from experiments.benchmark.case import Case, Implementation
from experiments.benchmark.random_inputs import (
    LOGIT_MEANS,
    as_channels_last,
    random_labels,
    random_outputs,
)
from experiments.benchmark.setting import Setting
from focal_retina.ops.focal_loss import sigmoid_focal_loss


def loss_cases(setting: Setting) -> Iterator[Case]:
    """Yield the focal loss from the head's outputs, and from logits and targets (R, K)."""
    logits = random_outputs(setting, setting.num_classes, LOGIT_MEANS["typical"], std=1.0)
    labels = random_labels(setting, num_foreground=400, num_ignored=1000)
    yield _head_outputs_case(setting, logits, labels)
    yield _flat_case(setting, logits, labels)


def _head_outputs_case(setting: Setting, logits: list[Tensor], labels: Tensor) -> Case:
    num_classes = setting.num_classes

    def detectron2_loss(logits: list[Tensor]) -> Tensor:
        # This is the classification half of Detectron2's RetinaNet.losses.
        flat = cat([permute_to_N_HWA_K(x, num_classes) for x in logits], dim=1)
        is_valid = labels >= 0
        targets = F.one_hot(labels[is_valid], num_classes + 1)[:, :-1].to(flat.dtype)
        return sigmoid_focal_loss_jit(
            flat[is_valid], targets, alpha=0.25, gamma=2.0, reduction="sum"
        )

    def our_loss(logits: list[Tensor]) -> Tensor:
        return sigmoid_focal_loss(logits, labels, num_classes=num_classes)

    implementations = {
        "Detectron2": _differentiated(detectron2_loss, logits),
        "focal_retina": _differentiated(our_loss, as_channels_last(logits)),
        "focal_retina, contiguous logits": _differentiated(our_loss, logits),
        "limit: copy of the logits": _copy_limit(logits),
    }
    return Case("loss", "from head outputs", "Detectron2", implementations)


def _flat_case(setting: Setting, logits: list[Tensor], labels: Tensor) -> Case:
    num_classes = setting.num_classes
    flat = torch.cat([permute_to_N_HWA_K(x, num_classes) for x in logits], dim=1)[0]
    # The functions of fvcore and torchvision cannot ignore anchors.
    labels = labels.where(labels >= 0, num_classes)
    targets = F.one_hot(labels[0], num_classes + 1)[:, :-1].to(flat.dtype)

    def loss_of(focal_loss: Callable, flat: list[Tensor]) -> Tensor:
        return focal_loss(*flat, targets, alpha=0.25, gamma=2.0, reduction="sum")

    def our_loss(flat: list[Tensor]) -> Tensor:
        # A view of (R, K) as the channels_last output of a head with one anchor: (1, K, R, 1).
        head_output = flat[0].view(1, -1, 1, num_classes).permute(0, 3, 1, 2)
        return sigmoid_focal_loss([head_output], labels, num_classes=num_classes)

    implementations = {
        "fvcore": _differentiated(partial(loss_of, sigmoid_focal_loss_jit), [flat]),
        "torchvision": _differentiated(partial(loss_of, torchvision_focal_loss), [flat]),
        "focal_retina": _differentiated(our_loss, [flat]),
        "limit: copy of the logits": _copy_limit([flat]),
    }
    return Case("loss", "from logits (R, K)", "fvcore", implementations)


def _differentiated(
    loss_of: Callable[[list[Tensor]], Tensor], outputs: Sequence[Tensor]
) -> Implementation:
    """Return an implementation that computes a loss and its gradient."""
    leaves = [x.detach().requires_grad_() for x in outputs]

    def run() -> dict:
        loss = loss_of(leaves)
        return {"loss": loss.detach(), "gradients": torch.autograd.grad(loss, leaves)}

    return Implementation(run)


def _copy_limit(logits: list[Tensor]) -> Implementation:
    return Implementation(
        lambda: [x.clone() for x in logits], note="reads and writes each logit once"
    )
