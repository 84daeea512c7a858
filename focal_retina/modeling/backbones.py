"""FPN backbones with levels P3 to P7 (paper Sec. 4, footnote 2)."""

from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelP6P7
from detectron2.modeling.backbone.resnet import build_resnet_backbone

from focal_retina.config import focal_retina_node
from focal_retina.registry import register


@register(BACKBONE_REGISTRY)
def build_focal_retina_resnet_fpn_backbone(cfg, input_shape: ShapeSpec) -> Backbone:
    """Build ResNet-18 to -152 or ResNeXt with an FPN whose P6 comes from C5 or P5."""
    return add_fpn(cfg, build_resnet_backbone(cfg, input_shape))


def add_fpn(cfg, bottom_up: Backbone) -> FPN:
    """Put an FPN with P6 and P7 on a backbone.

    ``MODEL.FOCAL_RETINA.P6_FROM`` chooses the input of P6, a 3x3 convolution of stride 2: "c5",
    the backbone's coarsest feature (the paper), or "p5". The FPN's convolutions keep FPN's own
    Xavier initialisation, as in the authors' code.

    Raises:
        ValueError: ``P6_FROM`` is neither.
    """
    in_features = cfg.MODEL.FPN.IN_FEATURES
    out_channels = cfg.MODEL.FPN.OUT_CHANNELS
    coarsest = bottom_up.output_shape()[in_features[-1]]
    p6_inputs = {"c5": (coarsest.channels, in_features[-1]), "p5": (out_channels, "p5")}
    p6_from = focal_retina_node(cfg).P6_FROM
    if p6_from not in p6_inputs:
        raise ValueError(f"MODEL.FOCAL_RETINA.P6_FROM is {p6_from!r}; set it to 'c5' or 'p5'")
    p6_channels, p6_feature = p6_inputs[p6_from]
    return FPN(
        bottom_up=bottom_up,
        in_features=in_features,
        out_channels=out_channels,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelP6P7(p6_channels, out_channels, p6_feature),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
