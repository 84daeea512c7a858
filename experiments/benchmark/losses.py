"""Cases of the focal loss and of the box loss, forward and backward."""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from detectron2.layers import cat
from detectron2.modeling.box_regression import _dense_box_regression_loss
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from detectron2.structures import Boxes
from fvcore.nn import sigmoid_focal_loss_jit
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from experiments.benchmark.inputs import (
    LOGIT_MEANS,
    Setting,
    as_channels_last,
    random_labels,
    random_outputs,
)
from experiments.benchmark.measuring import Case, Contestant
from experiments.benchmark.models import (
    DELTA_STD,
    detectron2_retinanet,
    focal_retinanet,
    torchvision_retinanet,
)
from focal_retina.modeling.assignment import Assignment
from focal_retina.ops.focal_loss import sigmoid_focal_loss

NUM_FOREGROUND = 400
NUM_IGNORED = 1000


def loss_cases(setting: Setting) -> Iterator[Case]:
    """Yield the focal loss from the head's outputs, and from logits and targets (R, K)."""
    logits = random_outputs(setting, setting.num_classes, LOGIT_MEANS["typical"], std=1.0)
    labels = random_labels(setting, num_foreground=NUM_FOREGROUND, num_ignored=NUM_IGNORED)
    yield _head_outputs_case(setting, logits, labels)
    yield _flat_case(setting, logits, labels)


def _head_outputs_case(setting: Setting, logits: list[Tensor], labels: Tensor) -> Case:
    num_classes = setting.num_classes

    def detectron2_loss(logits: list[Tensor]) -> Tensor:
        # The classification half of its RetinaNet.losses, which has no function of its own.
        flat = cat([permute_to_N_HWA_K(x, num_classes) for x in logits], dim=1)
        is_valid = labels >= 0
        targets = F.one_hot(labels[is_valid], num_classes + 1)[:, :-1].to(flat.dtype)
        return sigmoid_focal_loss_jit(
            flat[is_valid], targets, alpha=0.25, gamma=2.0, reduction="sum"
        )

    def our_loss(logits: list[Tensor]) -> Tensor:
        return sigmoid_focal_loss(logits, labels, num_classes=num_classes)

    contestants = {
        "Detectron2": _differentiated(detectron2_loss, logits),
        "focal_retina": _differentiated(our_loss, as_channels_last(logits)),
        "focal_retina, contiguous logits": _differentiated(our_loss, logits),
        "limit: copy of the logits": _copy_limit(logits),
    }
    return Case("loss", "from head outputs", "Detectron2", contestants, *_traffic(logits))


def _flat_case(setting: Setting, logits: list[Tensor], labels: Tensor) -> Case:
    num_classes = setting.num_classes
    flat = torch.cat([permute_to_N_HWA_K(x, num_classes) for x in logits], dim=1)[0]
    # fvcore's and torchvision's functions know no ignored anchors.
    labels = labels.where(labels >= 0, num_classes)
    targets = F.one_hot(labels[0], num_classes + 1)[:, :-1].to(flat.dtype)
    form = {"alpha": 0.25, "gamma": 2.0, "reduction": "sum"}

    def our_loss(flat: list[Tensor]) -> Tensor:
        # A view of (R, K) as the channels_last output of a head with one anchor: (1, K, R, 1).
        head_output = flat[0].view(1, -1, 1, num_classes).permute(0, 3, 1, 2)
        return sigmoid_focal_loss([head_output], labels, num_classes=num_classes)

    contestants = {
        "fvcore": _differentiated(lambda x: sigmoid_focal_loss_jit(*x, targets, **form), [flat]),
        "torchvision": _differentiated(
            lambda x: torchvision_focal_loss(*x, targets, **form), [flat]
        ),
        "focal_retina": _differentiated(our_loss, [flat]),
        "limit: copy of the logits": _copy_limit([flat]),
    }
    return Case("loss", "from logits (R, K)", "fvcore", contestants, *_traffic([flat]))


def box_loss_cases(setting: Setting) -> Iterator[Case]:
    """Yield the box loss (L1, Detectron2's default) of 400 foreground anchors."""
    detectron2, torchvision = detectron2_retinanet(setting), torchvision_retinanet(setting)
    ours = focal_retinanet(setting).loss
    deltas = random_outputs(setting, 4, 0.0, DELTA_STD)
    labels = random_labels(setting, num_foreground=NUM_FOREGROUND, num_ignored=0)
    is_foreground = labels < setting.num_classes
    anchors = detectron2.anchor_generator([x[:, :1] for x in deltas])
    all_anchors = Boxes.cat(anchors).tensor
    gt_boxes = all_anchors + torch.tensor([-1.0, 2.0, 3.0, 5.0], device=setting.device)
    assignment = _assignment(labels, is_foreground, gt_boxes)
    num_foreground = len(assignment.anchor_idxs)
    matches = torch.full_like(labels[0], -1)
    matches[assignment.anchor_idxs] = torch.arange(num_foreground, device=setting.device)

    def detectron2_loss(deltas: list[Tensor]) -> Tensor:
        flat = [permute_to_N_HWA_K(x, 4) for x in deltas]
        transform = detectron2.box2box_transform
        return _dense_box_regression_loss(anchors, transform, flat, [gt_boxes], is_foreground)

    def torchvision_loss(deltas: list[Tensor]) -> Tensor:
        flat = torch.cat([permute_to_N_HWA_K(x, 4) for x in deltas], dim=1)
        targets, outputs = [{"boxes": assignment.gt_boxes}], {"bbox_regression": flat}
        head = torchvision.head.regression_head
        # It divides by the foreground anchors.
        return head.compute_loss(targets, outputs, [all_anchors], [matches]) * num_foreground

    one = torch.ones((), device=setting.device)

    def our_loss(deltas: list[Tensor]) -> Tensor:
        return ours.box_loss(deltas, all_anchors, assignment, one)

    contestants = {
        "Detectron2": _differentiated(detectron2_loss, deltas),
        "torchvision": _differentiated(torchvision_loss, deltas),
        "focal_retina": _differentiated(our_loss, as_channels_last(deltas)),
    }
    yield Case("box-loss", f"{num_foreground} foreground anchors", "Detectron2", contestants)


def _assignment(labels: Tensor, is_foreground: Tensor, gt_boxes: Tensor) -> Assignment:
    image_idxs, anchor_idxs = is_foreground.nonzero(as_tuple=True)
    count = is_foreground.sum(dim=1)
    return Assignment(
        gt_labels=labels,
        image_idxs=image_idxs,
        anchor_idxs=anchor_idxs,
        gt_boxes=gt_boxes[anchor_idxs],
        num_foreground=count,
        num_unmatched=torch.zeros_like(count),
    )


def _differentiated(
    loss_of: Callable[[list[Tensor]], Tensor], outputs: Sequence[Tensor]
) -> Contestant:
    """Return a contestant that computes a loss and its gradient, and keeps neither."""
    leaves = [x.detach().requires_grad_() for x in outputs]

    def run() -> dict:
        loss = loss_of(leaves)
        return {"loss": loss.detach(), "gradients": torch.autograd.grad(loss, leaves)}

    return Contestant(run)


def _copy_limit(logits: list[Tensor]) -> Contestant:
    return Contestant(lambda: [x.clone() for x in logits], note="reads and writes as much, no more")


def _traffic(logits: list[Tensor]) -> tuple[float, str]:
    """Return the memory traffic of reading all logits and writing as much, and its unit."""
    return sum(x.nbytes for x in logits) * 2 / 1e9, "GB"
