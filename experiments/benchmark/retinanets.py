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

from experiments.benchmark.random_inputs import DELTA_STD, LOGIT_MEANS
from experiments.benchmark.setting import Setting
from focal_retina import add_focal_retina_config


def _built_once(build: Callable[[Setting], nn.Module]) -> Callable[[Setting], nn.Module]:
    """Decorate what builds a model: keep the last model, and return copies of it."""
    build_or_reuse = functools.lru_cache(maxsize=1)(build)

    @functools.wraps(build)
    def build_copy(setting: Setting) -> nn.Module:
        # A model does not depend on the sizes of images.
        key = Setting(device=setting.device, depth=setting.depth, num_classes=setting.num_classes)
        return copy.deepcopy(build_or_reuse(key))

    return build_copy


@_built_once
def detectron2_retinanet(setting: Setting) -> nn.Module:
    """Return Detectron2's RetinaNet, calibrated, in training mode."""
    model = _build("RetinaNet", setting)
    batch = [{"image": _calibration_image(setting)}]
    _calibrate(model, model.head.cls_score, model.head.bbox_pred, lambda: model(batch))
    return model


@_built_once
def focal_retinanet(setting: Setting) -> nn.Module:
    """Return our model from the same config, with the same weights, in training mode."""
    model = _build("FocalRetinaNet", setting)
    # Not strict: ours also keeps the normaliser's running mean.
    model.load_state_dict(detectron2_retinanet(setting).state_dict(), strict=False)
    return model


def torchvision_retinanet(setting: Setting) -> nn.Module:
    """Return torchvision's ``retinanet_resnet50_fpn``, calibrated, in training mode."""
    model = _torchvision_retinanet(setting)
    # It resizes images to these sides, which they have.
    model.transform.min_size = (min(setting.image_size),)
    model.transform.max_size = max(setting.image_size)
    return model


RETINANETS = {
    "Detectron2": detectron2_retinanet,
    "torchvision": torchvision_retinanet,
    "focal_retina": focal_retinanet,
}


def all_retinanets(setting: Setting) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return the models of Detectron2, of torchvision and ours."""
    return tuple(build(setting) for build in RETINANETS.values())


def torchvision_inputs(batch: list[dict]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Return images and targets of a batch of Detectron2's in torchvision's form."""
    objects = [x["instances"] for x in batch]
    targets = [{"boxes": x.gt_boxes.tensor, "labels": x.gt_classes} for x in objects]
    return [x["image"] / 255 for x in batch], targets


@_built_once
def _torchvision_retinanet(setting: Setting) -> nn.Module:
    torch.manual_seed(0)
    # As retinanet_resnet50_fpn builds it, but without weights to download, and with Detectron2's
    # number of detections per image.
    backbone = resnet_fpn_backbone(
        backbone_name=f"resnet{setting.depth}",
        weights=None,
        trainable_layers=3,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    image = _calibration_image(setting) / 255
    model = RetinaNet(
        backbone,
        setting.num_classes,
        detections_per_img=100,
        min_size=image.shape[-1],
        max_size=image.shape[-1],
    ).to(setting.device)
    class_layer = model.head.classification_head.cls_logits
    delta_layer = model.head.regression_head.bbox_reg
    _calibrate(model, class_layer, delta_layer, lambda: model([image]))
    return model


def _build(meta_architecture: str, setting: Setting) -> nn.Module:
    torch.manual_seed(0)
    cfg = get_cfg()
    add_focal_retina_config(cfg)
    cfg.merge_from_file(
        model_zoo.get_config_file("COCO-Detection/retinanet_R_50_FPN_1x.yaml"), allow_unsafe=True
    )
    cfg.MODEL.META_ARCHITECTURE = meta_architecture
    cfg.MODEL.DEVICE = setting.device
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.RESNETS.DEPTH = setting.depth
    if setting.depth < 50:
        cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64  # as Detectron2 demands
    cfg.MODEL.RETINANET.NUM_CLASSES = setting.num_classes
    return build_model(cfg)


def _calibration_image(setting: Setting) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (3, 320, 320), generator=generator).float().to(setting.device)


@torch.no_grad()
def _calibrate(
    model: nn.Module, class_layer: nn.Conv2d, delta_layer: nn.Conv2d, forward: Callable[[], Any]
) -> None:
    """Give an untrained model activations and outputs like those of a trained one.

    With random weights and frozen batch normalisation that does nothing, activations grow from
    block to block, until nearly half of all scores pass the threshold. Post-processing would then
    take most of the time. In one forward pass each normalisation takes the statistics of its input,
    and the two output layers are scaled to the outputs of the typical post-processing case.
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
    """Scale a convolution at its first call, on P3: each channel gets this mean and deviation."""

    def scale(conv: nn.Conv2d, _, output: Tensor) -> None:
        handle.remove()
        variances, means = torch.var_mean(output, dim=(0, 2, 3))
        gains = std / variances.sqrt()
        conv.weight.mul_(gains.view(-1, 1, 1, 1))
        conv.bias.copy_(mean - (means - conv.bias) * gains)

    handle = conv.register_forward_hook(scale)
