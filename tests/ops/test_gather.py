"""Gathered deltas are those that indexing of permuted maps gives."""

import pytest
import torch
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from helpers.loss_cases import both_layouts

from focal_retina.ops.gather import gather_anchor_deltas, gather_deltas


@both_layouts
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gathered_deltas_are_those_of_the_permuted_map(layout, dtype):
    torch.manual_seed(0)
    deltas = torch.randn(2, 12, 4, 6).to(dtype).contiguous(memory_format=layout)[1]
    anchor_idxs = torch.tensor([71, 0, 5, 5, 40])
    expected = permute_to_N_HWA_K(deltas[None], 4)[0][anchor_idxs].float()
    assert gather_deltas(deltas, anchor_idxs).equal(expected)
    assert gather_deltas(deltas, anchor_idxs[:0]).shape == (0, 4)


def random_levels(layout, dtype=torch.float32):
    """Two images, three levels of 5x7x3, 3x4x3 and 1x1x2 anchors: R = 143."""
    torch.manual_seed(0)
    shapes = [(2, 12, 5, 7), (2, 12, 3, 4), (2, 8, 1, 1)]
    levels = [torch.randn(shape).to(dtype).contiguous(memory_format=layout) for shape in shapes]
    return [level.requires_grad_() for level in levels]


@both_layouts
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gathered_anchor_deltas_and_gradients_are_those_of_the_permuted_maps(layout, dtype):
    levels = random_levels(layout, dtype)
    image_idxs = torch.tensor([0, 1, 0, 1, 1, 0, 1, 0])
    anchor_idxs = torch.tensor([0, 104, 105, 140, 141, 142, 7, 7])
    weights = torch.randn(8, 4)

    gathered = gather_anchor_deltas(levels, image_idxs, anchor_idxs)
    permuted = torch.cat([permute_to_N_HWA_K(level, 4) for level in levels], dim=1)
    expected = permuted[image_idxs, anchor_idxs].float()
    assert gathered.equal(expected)
    assert gathered.dtype == torch.float32
    gradients = torch.autograd.grad((gathered * weights).sum(), levels)
    torch.testing.assert_close(
        gradients, torch.autograd.grad((expected * weights).sum(), levels), rtol=0, atol=0
    )


@both_layouts
def test_no_anchor_gives_every_level_a_gradient_of_zeros(layout):
    levels = random_levels(layout)
    none = torch.empty(0, dtype=torch.int64)
    gathered = gather_anchor_deltas(levels, none, none)
    assert gathered.shape == (0, 4)
    gathered.sum().backward()
    assert [level.grad.count_nonzero().item() for level in levels] == [0, 0, 0]


def test_infinite_deltas_of_other_anchors_do_not_reach_the_gradient():
    levels = random_levels(torch.contiguous_format)
    with torch.no_grad():
        levels[1].fill_(torch.inf)
    gathered = gather_anchor_deltas(levels, torch.tensor([0]), torch.tensor([3]))
    gathered.square().sum().backward()
    assert all(level.grad.isfinite().all() for level in levels)
