"""Paper Table 1e, ResNet-101 at 800 pixels, as a LazyConfig."""

from .common.paper import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model.backbone.bottom_up.stages.depth = 101
train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-101.pkl"
