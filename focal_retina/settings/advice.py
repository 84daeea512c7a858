"""Settings that run but are likely mistakes: each check returns one sentence, or None."""

import logging

from detectron2.config import CfgNode, get_cfg
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from focal_retina.modeling.backbones import PixelFormat, pixel_advice
from focal_retina.settings.flat_keys import dotted_keys

logger = logging.getLogger(__name__)

# Keys of Detectron2's two-stage models whose counterpart in MODEL.RETINANET has another name.
_RENAMED = {
    "NMS_THRESH": "NMS_THRESH_TEST",
    "PRE_NMS_TOPK_TEST": "TOPK_CANDIDATES_TEST",
    "SMOOTH_L1_BETA": "SMOOTH_L1_LOSS_BETA",
}
_MEAN = (103.530, 116.280, 123.675)  # BGR
_STD = (57.375, 57.120, 58.395)
_CAFFE = PixelFormat(_MEAN, (1.0, 1.0, 1.0), "BGR")
_FACEBOOK = PixelFormat(_MEAN, _STD, "BGR")
# Part of a path of pretrained weights -> the pixels they saw: Detectron2's model zoo and the
# comments of its configs.
_PIXELS_OF_WEIGHTS = {
    "ImageNetPretrained/MSRA/": _CAFFE,
    "ImageNetPretrained/FAIR/R-": _CAFFE,  # trained with group normalisation
    "ImageNetPretrained/FAIR/X-": _FACEBOOK,
    "ImageNetPretrained/torchvision/": PixelFormat(_MEAN[::-1], _STD[::-1], "RGB"),
    "pycls/dds_baselines/": _FACEBOOK,  # RegNet
}


def pixels_of_weights(weights: str, found: PixelFormat) -> str | None:
    """Compare pixel mean, deviation and channel order with those of known ImageNet weights."""
    known = [pixels for part, pixels in _PIXELS_OF_WEIGHTS.items() if part in weights]
    return pixel_advice(weights, known[0], found) if known else None


def learning_rate(lr_key: str, lr: float, batch_key: str, batch_size: int) -> str | None:
    """Compare with 0.01 for 16 images, scaled linearly (paper Sec. 4.1); a factor of 2 is fine."""
    fitting = 0.01 * batch_size / 16
    if fitting / 2 * 0.999 <= lr <= fitting * 2 * 1.001:
        return None
    return (
        f"{lr_key} {lr:g} does not fit {batch_key} {batch_size}: RetinaNet's 0.01 for 16 images, "
        f"scaled linearly, gives {fitting:g}; set {lr_key} to {fitting:g}"
    )


def frozen_norm(model: nn.Module, weights_key: str, remedy: str) -> str | None:
    """Look for frozen normalisation in a model that starts from random weights.

    Its statistics suit pretrained weights, and the activations of random ones grow with each layer.
    """
    if not any(isinstance(module, FrozenBatchNorm2d) for module in model.modules()):
        return None
    return (
        f"{weights_key} is empty, but the backbone has FrozenBN, which makes sense with pretrained "
        f"weights only, and the loss is likely to become NaN at once: set {weights_key}, or train "
        f"from scratch with {remedy}"
    )


def ignored_keys(cfg: CfgNode) -> str | None:
    """Look for changed keys of two-stage models in a config of a RetinaNet."""
    if cfg.MODEL.META_ARCHITECTURE not in ("RetinaNet", "FocalRetinaNet"):
        return None
    defaults = dotted_keys(get_cfg().MODEL)
    changed = [
        key
        for key, value in dotted_keys(cfg.MODEL).items()
        if key.startswith(("ROI_HEADS.", "RPN.")) and value != defaults.get(key, value)
    ]
    if not changed:
        return None
    short = [key.split(".")[1] for key in changed]
    names = dict.fromkeys(_RENAMED.get(name, name) for name in short)
    instead = ", ".join(f"MODEL.RETINANET.{name}" for name in names if name in cfg.MODEL.RETINANET)
    ignored = ", ".join(f"MODEL.{key}" for key in changed)
    return f"a RetinaNet ignores {ignored}" + (f": set {instead} instead" if instead else "")


def log(advice: str | None) -> None:
    """Warn, where there is something to say."""
    if advice:
        logger.warning(advice)
