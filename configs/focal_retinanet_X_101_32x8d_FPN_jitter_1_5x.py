"""Paper Table 2, ResNeXt-101-32x8d: scale jitter, 1.5 times longer, as a LazyConfig."""

from detectron2.config import LazyCall as L  # noqa: N817
from detectron2.modeling.backbone import ResNet
from detectron2.modeling.backbone.resnet import BottleneckBlock

from .focal_retinanet_R_101_FPN_jitter_1_5x import (  # noqa: F401
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

# (blocks, first stride, in, bottleneck and out channels) of each stage: 32 groups of 8 channels.
STAGES = [
    (3, 1, 64, 256, 256),
    (4, 2, 256, 512, 512),
    (23, 2, 512, 1024, 1024),
    (3, 2, 1024, 2048, 2048),
]

model.backbone.bottom_up.stages = [
    L(ResNet.make_stage)(
        block_class=BottleneckBlock,
        num_blocks=blocks,
        stride_per_block=[stride] + [1] * (blocks - 1),
        in_channels=in_channels,
        bottleneck_channels=bottleneck_channels,
        out_channels=out_channels,
        num_groups=32,
        stride_in_1x1=False,
        norm="FrozenBN",
    )
    for blocks, stride, in_channels, bottleneck_channels, out_channels in STAGES
]
model.preprocessor.pixel_std = [57.375, 57.120, 58.395]
train.init_checkpoint = "detectron2://ImageNetPretrained/FAIR/X-101-32x8d.pkl"
