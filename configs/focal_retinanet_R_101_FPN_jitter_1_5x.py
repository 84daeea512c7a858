"""Paper Table 2, ResNet-101: scale jitter, 1.5 times longer, as a LazyConfig."""

from .focal_retinanet_R_101_FPN_1x import (  # noqa: F401
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

dataloader.train.mapper.augmentations[0].short_edge_length = (640, 672, 704, 736, 768, 800)
train.max_iter = 135000
lr_multiplier.milestones = [90000, 120000, 135000]
