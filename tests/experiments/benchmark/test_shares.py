"""The share outside convolutions knows all kinds of them."""

import torch
import torch.nn.functional as F

from experiments.benchmark.inputs import Setting
from experiments.benchmark.shares import profiled_share
from focal_retina.acceleration.convolution import fast_convolutions


def test_what_is_done_within_winograds_convolutions_is_theirs():
    x = torch.randn(1, 256, 48, 64).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(256, 256, 3, 3, requires_grad=True)

    def run():
        with fast_convolutions():
            F.conv2d(x, weight, padding=1).sum().backward()

    share = profiled_share(run, Setting())
    names = set(share.largest)
    assert {"WinogradConvolution", "WinogradConvolutionBackward"} <= names
    assert not {"aten::mm", "aten::bmm", "aten::baddbmm"} & names
    assert 0 < share.outside_convolutions < 0.5
