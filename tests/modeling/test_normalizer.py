"""LossNormalizer: each kind is the number it says, and "ema" survives a checkpoint."""

import pytest
import torch

from focal_retina.modeling.normalizer import NORMALIZERS, LossNormalizer

COUNTS = torch.tensor([6, 0, 3])


def test_image_gives_the_mean_over_images_of_loss_per_foreground_anchor():
    losses = torch.tensor([12.0, 5.0, 9.0])
    normalizer = LossNormalizer(kind="image")(COUNTS)
    assert (losses / normalizer).sum().item() == pytest.approx((12 / 6 + 5 / 1 + 9 / 3) / 3)


@pytest.mark.parametrize("kind", ["gpu", "all_gpus"])
def test_one_gpu_counts_its_images_and_the_offset_of_each(kind):
    assert LossNormalizer(kind=kind)(COUNTS) == 9
    assert LossNormalizer(kind=kind, offset=1)(COUNTS) == 12


@pytest.mark.parametrize("kind", ["image", "gpu", "all_gpus"])
def test_no_foreground_at_all_divides_by_one_per_image_or_batch(kind):
    normalizer = LossNormalizer(kind=kind)(torch.tensor([0]))
    assert normalizer.item() == 1


def test_ema_is_detectron2s_running_mean_to_the_last_bit():
    normalizer, theirs = LossNormalizer(), 100
    for count in (9, 0, 1234, 17):
        theirs = theirs * 0.9 + max(count, 1) * (1 - 0.9)
        assert normalizer(torch.tensor([count])).item() == theirs


def test_ema_is_remembered_by_a_checkpoint_and_untouched_by_evaluation():
    normalizer, restored = LossNormalizer(kind="ema"), LossNormalizer(kind="ema").eval()
    normalizer(COUNTS)
    restored.load_state_dict(normalizer.state_dict())
    before = normalizer.foreground_ema.item()
    assert restored(torch.tensor([1000])).item() == before


@pytest.mark.parametrize("kind", NORMALIZERS)
def test_the_micro_batches_of_a_batch_add_up_to_it(kind):
    whole, normalizer = LossNormalizer(kind=kind), LossNormalizer(kind=kind)
    losses = torch.tensor([12.0, 5.0, 9.0])
    with normalizer.deferred() as factor:
        found = [x / normalizer(n) for x, n in zip(losses.split(2), COUNTS.split(2), strict=True)]
        total = factor() * sum(x.sum() for x in found)
    per_image = losses if kind == "image" else losses.sum()
    assert total.item() == pytest.approx((per_image / whole(COUNTS)).sum().item())
    assert torch.equal(normalizer(COUNTS), whole(COUNTS))  # the state of "ema" too
