"""Models that take a step in milliseconds, and loops over them."""

import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from helpers.batches import GN_R18, detectron2_retinanet_config, random_batch
from torch import nn

from focal_retina.training.loop import TrainingLoop


def tiny_config(overrides=None, **keys):
    """Return a small model's config; keys are of MODEL.FOCAL_RETINA, overrides of any node."""
    own = {"MODEL.META_ARCHITECTURE": "FocalRetinaNet", "MODEL.RETINANET.NUM_CLASSES": 4}
    own |= {f"MODEL.FOCAL_RETINA.{key}": value for key, value in keys.items()}
    return detectron2_retinanet_config(GN_R18 | own | (overrides or {}))


def tiny_model(overrides=None, **keys):
    torch.manual_seed(0)
    return build_model(tiny_config(overrides, **keys))


def tiny_batch(num_objects, size=(64, 64), seed=0):
    """Return random images of one size with so many objects of the tiny model's classes each."""
    return random_batch([size] * len(num_objects), num_objects, num_classes=4, seed=seed)


def losses_of(model, batch):
    with EventStorage(0):
        return model.train()(batch)


def losses_and_gradients(model, batch):
    """Return the losses by name, and the gradient of each parameter that is learned, by name."""
    model.zero_grad()
    losses = losses_of(model, batch)
    sum(losses.values()).backward()
    return losses, {n: p.grad for n, p in model.named_parameters() if p.requires_grad}


class Line(nn.Module):
    """A model of two losses that remembers in which precision it multiplied."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.factor = factor

    def forward(self, batch):
        y = self.layer(batch.to(self.layer.weight.device))
        self.dtype = y.dtype
        y = y.float() * self.factor
        return {"loss_a": y.square().mean(), "loss_b": y.abs().mean()}


def line_loop(loop_class=TrainingLoop, steps=3, device="cpu", factor=1.0, **options):
    torch.manual_seed(0)
    model = Line(factor).to(device)
    data = list(torch.randn(steps, 4, 8))
    return loop_class(model, data, torch.optim.SGD(model.parameters(), 0.1), **options)


def train(loop, steps=3, start=0):
    """Take some steps, and return what was written last, by name."""
    with EventStorage(start) as loop.storage:
        for loop.iter in range(start, start + steps):
            loop.run_step()
            loop.storage.step()
        return {name: value for name, (value, _) in loop.storage.latest().items()}
