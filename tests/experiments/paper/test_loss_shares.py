"""Figure 4: the sample is bounded and uniform, the shares are right."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from helpers.batches import GN_R18, detectron2_retinanet_config, random_batch

from experiments.paper import loss_shares


def test_the_reservoir_keeps_all_of_a_short_stream():
    reservoir = loss_shares.Reservoir(10)
    for values in (torch.arange(4.0), torch.zeros(0), torch.arange(4.0, 10)):
        reservoir.add(values)
    assert sorted(reservoir.values.tolist()) == list(range(10))


def test_the_reservoir_is_bounded_and_every_value_has_the_same_chance():
    counts = torch.zeros(100)
    for seed in range(400):
        reservoir = loss_shares.Reservoir(20, seed)
        for values in torch.arange(100.0).split([3, 40, 1, 56]):
            reservoir.add(values)
            assert len(reservoir.values) <= 20
        counts[reservoir.values.long()] += 1
    assert counts.sum() == 400 * 20
    # The mean is 80, the standard deviation 8; the means of the four parts would show a bias.
    for part in counts.split([3, 40, 1, 56]):
        assert abs(part.mean() - 80) < 4 * 8 / len(part) ** 0.5


def test_shares_of_known_losses():
    cumulative = np.array([0.0, 0.1, 0.2, 0.5, 1.0])
    assert loss_shares.share_of_hardest(cumulative, 0.2) == pytest.approx(0.5)
    assert loss_shares.share_of_hardest(cumulative, 1.0) == pytest.approx(1.0)
    assert loss_shares.fraction_that_carries(cumulative, 0.5) == pytest.approx(0.2)
    assert loss_shares.fraction_that_carries(cumulative, 0.75) == pytest.approx(0.4)


def test_a_larger_gamma_gives_the_hardest_more():
    x_t = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 3
    curves = [loss_shares.cumulative_loss(x_t, gamma) for gamma in (0.0, 0.5, 1.0, 2.0)]
    shares = [loss_shares.share_of_hardest(curve, 0.2) for curve in curves]
    assert shares == sorted(shares) and shares[0] < shares[-1]
    assert all(curve[-1] == pytest.approx(1) and (np.diff(curve) >= 0).all() for curve in curves)


def test_a_model_and_images_give_foreground_and_background():
    overrides = {"MODEL.META_ARCHITECTURE": "FocalRetinaNet", "MODEL.RETINANET.NUM_CLASSES": 3}
    torch.manual_seed(0)
    model = build_model(detectron2_retinanet_config({**GN_R18, **overrides}))
    batch = random_batch([(64, 64), (96, 64)], [2, 0], num_classes=3)
    foreground, background = loss_shares.sample_logits(model, batch, 5, 1000)
    assert (len(foreground), len(background)) == (5, 1000)
    # Untrained, every class of every anchor has the prior probability .01.
    assert torch.allclose(foreground.sigmoid(), torch.tensor(0.01), atol=0.01)
    assert torch.allclose(background.sigmoid(), torch.tensor(0.99), atol=0.01)
    assert len(list(loss_shares.facts(foreground, background))) == 5
