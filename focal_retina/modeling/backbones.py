"""FPN backbones with levels P3 to P7 (paper Sec. 4, footnote 2)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelP6P7
from detectron2.modeling.backbone.regnet import RegNet, ResBottleneckBlock, SimpleStem
from detectron2.modeling.backbone.resnet import build_resnet_backbone
from torch import Tensor, nn

from focal_retina.config import focal_retina_node
from focal_retina.errors import MissingExtraError, UserError, require_choice
from focal_retina.registry import register


@register(BACKBONE_REGISTRY)
def build_focal_retina_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build ResNet-18 to -152 or ResNeXt with an FPN whose P6 comes from C5 or P5."""
    return add_fpn(cfg, build_resnet_backbone(cfg, input_shape))


@register(BACKBONE_REGISTRY)
def build_focal_retina_regnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build the RegNet of ``MODEL.FOCAL_RETINA.REGNET`` with an FPN."""
    node = focal_retina_node(cfg).REGNET
    regnet = RegNet(
        stem_class=SimpleStem,
        stem_width=node.STEM_WIDTH,
        block_class=ResBottleneckBlock,
        depth=node.DEPTH,
        w_a=node.W_A,
        w_0=node.W_0,
        w_m=node.W_M,
        group_width=node.GROUP_WIDTH,
        se_ratio=node.SE_RATIO,
        norm=node.NORM,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        out_features=_known_features(cfg, {f"s{i}": 2 * 2**i for i in (1, 2, 3, 4)}),
    )
    return add_fpn(cfg, regnet)


@register(BACKBONE_REGISTRY)
def build_focal_retina_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build the timm model of ``MODEL.FOCAL_RETINA.TIMM`` with an FPN.

    Raises:
        UserError: no such model, no such features, or pretrained weights for other pixels.
        MissingExtraError: timm is not installed.
    """
    node = focal_retina_node(cfg).TIMM
    own = {"pretrained": node.PRETRAINED, "freeze_bn": node.FREEZE_BN}
    timm_model = TimmBackbone(node.NAME, **own, **node.OPTIONS)
    found = PixelFormat(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, cfg.INPUT.FORMAT)
    advice = pixel_advice(f"timm's {node.NAME}", timm_model.pixel_format, found)
    if node.PRETRAINED and advice:
        raise UserError(advice)
    return add_fpn(cfg, timm_model)


def _known_features(cfg: CfgNode, strides: Mapping[str, int]) -> list[str]:
    """Return ``MODEL.FPN.IN_FEATURES``; raise a UserError if features have not these strides."""
    in_features = list(cfg.MODEL.FPN.IN_FEATURES)
    found = [strides.get(name, 0) for name in in_features]
    if not found or not all(found) or found != [found[0] * 2**i for i in range(len(found))]:
        raise UserError(
            f"MODEL.FPN.IN_FEATURES is {in_features}, but this backbone has {list(strides)}; "
            "the FPN takes features of strides 8, 16 and 32, in this order"
        )
    return in_features


class LinearP6P7(LastLevelP6P7):
    """P6 and P7 without the ReLU between them, as mmdetection's RetinaNet has them."""

    def forward(self, features: Tensor) -> list[Tensor]:
        p6 = self.p6(features)
        return [p6, self.p7(p6)]


class OnlyP6(nn.Module):
    """P6 without P7, with the names of their weights."""

    def __init__(self, top_block: LastLevelP6P7):
        super().__init__()
        self.p6, self.in_feature, self.num_levels = top_block.p6, top_block.in_feature, 1

    def forward(self, features: Tensor) -> list[Tensor]:
        return [self.p6(features)]


def _is_used(cfg: CfgNode, feature: str) -> bool:
    """Return whether the model may use a feature: a RetinaNet says which it does."""
    is_retinanet = "RetinaNet" in cfg.MODEL.META_ARCHITECTURE
    return not is_retinanet or feature in cfg.MODEL.RETINANET.IN_FEATURES


def add_fpn(cfg: CfgNode, bottom_up: Backbone) -> FPN:
    """Put an FPN on a backbone, with P6 and P7 as ``MODEL.FOCAL_RETINA`` says.

    P7, and P6, are left out if ``MODEL.RETINANET.IN_FEATURES`` does: no loss would reach them.
    The FPN's convolutions keep FPN's own Xavier initialisation, as in the authors' code.

    Raises:
        UserError: an unknown ``P6_FROM``, or the backbone has not ``MODEL.FPN.IN_FEATURES``.
    """
    shapes = bottom_up.output_shape()
    in_features = _known_features(cfg, {name: shape.stride for name, shape in shapes.items()})
    c5, out_channels, node = in_features[-1], cfg.MODEL.FPN.OUT_CHANNELS, focal_retina_node(cfg)
    p6_inputs = {"c5": (shapes[c5].channels, c5), "p5": (out_channels, "p5")}
    require_choice("MODEL.FOCAL_RETINA.P6_FROM", node.P6_FROM, p6_inputs)
    p6_channels, p6_feature = p6_inputs[node.P6_FROM]
    kind = LastLevelP6P7 if node.P7_RELU else LinearP6P7
    top_block = kind(p6_channels, out_channels, p6_feature)
    level = shapes[c5].stride.bit_length()  # of P6: features are named by their strides
    if not _is_used(cfg, f"p{level + 1}"):
        top_block = OnlyP6(top_block) if _is_used(cfg, f"p{level}") else None
    return FPN(
        bottom_up=bottom_up,
        in_features=in_features,
        out_channels=out_channels,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


class PixelFormat(NamedTuple):
    """What weights expect of the pixels, 0 to 255, in the words of a config."""

    mean: Sequence[float]  # MODEL.PIXEL_MEAN, in the channel order of ``order``
    std: Sequence[float]  # MODEL.PIXEL_STD
    order: str  # INPUT.FORMAT, "BGR" or "RGB"


def pixel_advice(weights: str, wanted: PixelFormat, found: PixelFormat) -> str | None:
    """Return a sentence that names the right values; None where they are set.

    Means may differ by 1 and deviations by 0.5: so much do published values, but not values of
    swapped channels.
    """
    is_close = _are_close(wanted.mean, found.mean, 1.0) and _are_close(wanted.std, found.std, 0.5)
    if is_close and wanted.order == found.order:
        return None
    mean, std = ([round(float(v), 3) for v in values] for values in wanted[:2])
    return (
        f"{weights} was trained on other pixels: set the pixel mean (MODEL.PIXEL_MEAN) to {mean}, "
        f"the deviation (MODEL.PIXEL_STD) to {std} and the channel order (INPUT.FORMAT) to "
        f"{wanted.order}; now they are {list(found.mean)}, {list(found.std)} and {found.order}"
    )


def _are_close(wanted: Sequence[float], found: Sequence[float], tolerance: float) -> bool:
    return all(abs(w - f) <= tolerance for w, f in zip(wanted, found, strict=True))


class TimmBackbone(Backbone):
    """A model of timm; its features have the names that Detectron2's ResNet gives their strides.

    "res2" has stride 4, "res5" stride 32. Of several features with one stride it has the last one.

    Args:
        name: as ``timm.create_model`` takes it.
        pretrained: start from timm's weights.
        freeze_bn: keep the statistics and weights of batch norm as they are.
        options: more arguments of ``timm.create_model``.

    Raises:
        UserError: timm has no such model, it takes no such options, or its weights cannot be had.
        MissingExtraError: timm is not installed.
    """

    def __init__(
        self, name: str, *, pretrained: bool = False, freeze_bn: bool = False, **options: Any
    ):
        super().__init__()
        try:
            import timm
        except ModuleNotFoundError as error:
            sentence = "a timm backbone needs timm: pip install 'focal_retina[timm]'"
            raise MissingExtraError(sentence) from error
        if not timm.is_model(name):
            raise UserError(f"timm {timm.__version__} has no model {name!r}: see timm.list_models")
        options = {"pretrained": pretrained, "features_only": True, **options}
        try:
            model: Any = timm.create_model(name, **options)
        except TypeError as error:
            sentence = f"timm's {name} does not take the options {options}: {error}"
            raise UserError(sentence) from error
        except OSError as error:  # the network's too
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"timm's weights of {name} cannot be loaded: {reason}") from error
        self.model = timm.layers.freeze_batch_norm_2d(model) if freeze_bn else model
        config = model.pretrained_cfg
        # timm's images are RGB, 0 to 1.
        mean, std = ([255 * v for v in config[key]] for key in ("mean", "std"))
        self.pixel_format = PixelFormat(mean, std, "RGB")
        strides, channels = model.feature_info.reduction(), model.feature_info.channels()
        self._names = [f"res{stride.bit_length() - 1}" for stride in strides]
        self._shapes = {
            name: ShapeSpec(channels=c, stride=s)
            for name, c, s in zip(self._names, channels, strides, strict=True)
            if s.bit_count() == 1  # a power of 2
        }
        self._is_nhwc = str(getattr(model, "output_fmt", "")).endswith("NHWC")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the features by name, each (N, C, H, W).

        Args:
            images: (N, 3, H, W), normalised as ``pixel_format`` says.
        """
        features = self.model(images)
        if self._is_nhwc:
            features = [x.permute(0, 3, 1, 2) for x in features]
        return {k: x for k, x in zip(self._names, features, strict=True) if k in self._shapes}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return self._shapes
