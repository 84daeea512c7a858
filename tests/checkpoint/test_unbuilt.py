"""A run whose model had a P7 that nothing used goes on without it, to the bit."""

import copy

import pytest
import torch
from detectron2.solver.build import get_default_optimizer_params
from torch import nn

from focal_retina.checkpoint.unbuilt import drop_unbuilt_p7


class Net(nn.Module):
    def __init__(self, *levels):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.top_block = nn.ModuleDict({name: nn.Conv2d(1, 1, 1) for name in levels})
        self.head = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))

    def forward(self, x):
        return self.head(self.backbone.top_block["p6"](x)).square().mean()


def optimizer_of(model, bias_factor):
    options = {"bias_lr_factor": bias_factor, "weight_decay_norm": 0.0, "weight_decay": 0.1}
    groups = get_default_optimizer_params(model, base_lr=0.1, **options)
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9)


def step(model, optimizer):
    optimizer.zero_grad()
    model(torch.arange(8.0).view(2, 1, 2, 2)).backward()
    optimizer.step()


@pytest.mark.parametrize("bias_factor", [1.0, 2.0])
def test_the_momentum_of_every_other_weight_stays(bias_factor):
    old, new = Net("p6", "p7"), Net("p6")
    before, now = optimizer_of(old, bias_factor), optimizer_of(new, bias_factor)
    for _ in range(2):
        step(old, before)
    trainer = {"optimizer": before.state_dict(), "hooks": {"ModelEMA": {"model": old.state_dict()}}}
    content = copy.deepcopy({"model": old.state_dict(), "trainer": trainer})
    drop_unbuilt_p7(content, new, now)
    new.load_state_dict(content["model"])
    new.load_state_dict(content["trainer"]["hooks"]["ModelEMA"]["model"])
    now.load_state_dict(content["trainer"]["optimizer"])
    step(old, before)
    step(new, now)
    for name, weight in new.state_dict().items():
        assert torch.equal(weight, old.state_dict()[name]), name


def test_a_checkpoint_of_a_model_that_has_p7_is_left_alone():
    model = Net("p6", "p7")
    optimizer = optimizer_of(model, 1.0)
    content = {"model": model.state_dict(), "trainer": {"optimizer": optimizer.state_dict()}}
    before = copy.deepcopy(content["trainer"])
    drop_unbuilt_p7(content, model, optimizer)
    assert content["trainer"] == before and len(content["model"]) == len(model.state_dict())
