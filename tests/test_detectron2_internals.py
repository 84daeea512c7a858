"""The private names that we lean on still mean what they meant."""

import pytest
import torch

from focal_retina.detectron2_internals import sizes_not_specialised
from focal_retina.errors import UserError


class Doubled(torch.nn.Module):
    def forward(self, x):
        return 2 * x


def test_torch_export_takes_a_size_of_one_for_any_size():
    sizes = {0: torch.export.Dim("rows", min=1)}
    with sizes_not_specialised():
        program = torch.export.export(Doubled(), (torch.ones(1, 3),), dynamic_shapes=(sizes,))
    assert program.module()(torch.ones(5, 3)).shape == (5, 3)


def test_a_pytorch_without_that_setting_is_refused(monkeypatch):
    monkeypatch.setattr(torch.fx.experimental, "_config", object())
    with pytest.raises(UserError, match="any image size; install a later"):
        sizes_not_specialised().__enter__()
