"""Three RetinaNets: Detectron2's, ours with its weights, and torchvision's."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from torch import Tensor, nn
from torchvision import ops
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from experiments.benchmark.inputs import LOGIT_MEANS, Setting
from focal_retina import add_focal_retina_config

DELTA_STD = 0.3


def detectron2_retinanet(setting: Setting) -> nn.Module:
    """Return Detectron2's RetinaNet, calibrated, in training mode."""
    return copy.deepcopy(_detectron2(setting.device, setting.depth, setting.num_classes))


def focal_retinanet(setting: Setting) -> nn.Module:
    """Return ours from the same config, with the same weights, in training mode."""
    return copy.deepcopy(_focal_retinanet(setting.device, setting.depth, setting.num_classes))


def torchvision_retinanet(setting: Setting) -> nn.Module:
    """Return the ``retinanet_resnet50_fpn`` of pretrained weights, calibrated, in training mode."""
    model = copy.deepcopy(_torchvision(setting.device, setting.depth, setting.num_classes))
    # It resizes to these sides: not at all.
    model.transform.min_size = (min(setting.image_size),)
    model.transform.max_size = max(setting.image_size)
    return model


def torchvision_inputs(batch: list[dict]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Return images and targets of a batch of Detectron2's in the form torchvision takes."""
    objects = [x["instances"] for x in batch]
    targets = [{"boxes": x.gt_boxes.tensor, "labels": x.gt_classes} for x in objects]
    return [x["image"] / 255 for x in batch], targets


@functools.lru_cache(maxsize=1)
def _detectron2(device: str, depth: int, num_classes: int) -> nn.Module:
    model = _build("RetinaNet", device, depth, num_classes)
    batch = [{"image": _calibration_image(device)}]
    _calibrate(model, model.head.cls_score, model.head.bbox_pred, lambda: model(batch))
    return model


@functools.lru_cache(maxsize=1)
def _focal_retinanet(device: str, depth: int, num_classes: int) -> nn.Module:
    model = _build("FocalRetinaNet", device, depth, num_classes)
    # Not strict: ours also keeps the normaliser's running mean.
    model.load_state_dict(_detectron2(device, depth, num_classes).state_dict(), strict=False)
    return model


@functools.lru_cache(maxsize=1)
def _torchvision(device: str, depth: int, num_classes: int) -> nn.Module:
    torch.manual_seed(0)
    # As retinanet_resnet50_fpn does it, but without weights to download, and with Detectron2's
    # number of detections per image.
    backbone = resnet_fpn_backbone(
        backbone_name=f"resnet{depth}",
        weights=None,
        trainable_layers=3,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    image = _calibration_image(device) / 255
    sides = {"min_size": image.shape[-1], "max_size": image.shape[-1]}
    model = RetinaNet(backbone, num_classes, detections_per_img=100, **sides).to(device)
    class_layer = model.head.classification_head.cls_logits
    delta_layer = model.head.regression_head.bbox_reg
    _calibrate(model, class_layer, delta_layer, lambda: model([image]))
    return model


def _build(meta_architecture: str, device: str, depth: int, num_classes: int) -> nn.Module:
    torch.manual_seed(0)
    cfg = get_cfg()
    add_focal_retina_config(cfg)
    cfg.merge_from_file(
        model_zoo.get_config_file("COCO-Detection/retinanet_R_50_FPN_1x.yaml"), allow_unsafe=True
    )
    cfg.MODEL.META_ARCHITECTURE = meta_architecture
    cfg.MODEL.DEVICE = device
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.RESNETS.DEPTH = depth
    if depth < 50:
        cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64  # as Detectron2 demands
    cfg.MODEL.RETINANET.NUM_CLASSES = num_classes
    return build_model(cfg)


def _calibration_image(device: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (3, 320, 320), generator=generator).float().to(device)


@torch.no_grad()
def _calibrate(
    model: nn.Module, class_layer: nn.Conv2d, delta_layer: nn.Conv2d, forward: Callable[[], Any]
) -> None:
    """Give an untrained model activations and outputs like a trained one's.

    Random weights with the identity as frozen batch normalisation make activations grow from
    block to block, until nearly half of all scores pass the threshold: post-processing would then
    be most of the time. One forward pass makes each normalisation's statistics those of its input,
    and scales the two output layers to the outputs of the post-processing's typical case.
    """
    norms = [m for m in model.modules() if isinstance(m, FrozenBatchNorm2d | ops.FrozenBatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(_take_statistics) for norm in norms]
    _standardize_at_first_call(class_layer, LOGIT_MEANS["typical"], 1.0)
    _standardize_at_first_call(delta_layer, 0.0, DELTA_STD)
    model.eval()
    forward()
    model.train()
    for hook in hooks:
        hook.remove()


def _take_statistics(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


def _standardize_at_first_call(conv: nn.Conv2d, mean: float, std: float) -> None:
    """Make a convolution's output have this mean and deviation in each channel, on P3."""

    def scale(conv: nn.Conv2d, _, output: Tensor) -> None:
        handle.remove()
        variances, means = torch.var_mean(output, dim=(0, 2, 3))
        gains = std / variances.sqrt()
        conv.weight.mul_(gains.view(-1, 1, 1, 1))
        conv.bias.copy_(mean - (means - conv.bias) * gains)

    handle = conv.register_forward_hook(scale)
