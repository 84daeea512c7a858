"""Paper Table 1e, ResNet-50 at 800 pixels, as a LazyConfig."""

from .common.paper import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401
