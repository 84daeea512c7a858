"""A step in pieces is the step of the whole batch, up to rounding."""

import pytest
import torch
from batches import random_batch
from detectron2.engine import launch
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from small_models import tiny_config
from torch.nn.parallel import DistributedDataParallel

import focal_retina  # noqa: F401  the spawned processes need the registered parts
from focal_retina.engine.accumulation import split_batch
from focal_retina.engine.loop import TrainingLoop

# Pieces of one, one without objects, sizes that the whole batch pads.
SIZES = [(64, 64), (64, 96), (96, 64), (64, 64), (32, 96)]
OBJECTS = [0, 3, 1, 0, 6]
NAMES = ("loss_cls", "loss_box_reg", "total_loss")


def train(steps, cfg, dtype=None, output=None):
    """Take two optimizer steps; return the losses of the last and the model's state."""
    torch.set_num_threads(1)
    rank, world = comm.get_rank(), comm.get_world_size()
    torch.manual_seed(0)
    model = build_model(cfg)
    sizes, objects = SIZES + SIZES[::-1], OBJECTS + OBJECTS[::-1]
    batches = [random_batch(sizes, objects, num_classes=4, seed=seed) for seed in range(2)]
    share = [batch[rank :: world * 2] for batch in batches]
    wrapped = DistributedDataParallel(model, broadcast_buffers=False) if world > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), 0.002, momentum=0.9)
    loop = TrainingLoop(wrapped, share, optimizer, dtype=dtype, accumulation_steps=steps)
    with EventStorage(0) as loop.storage:
        for loop.iter in range(2):
            loop.run_step()
        latest = {name: value for name, (value, _) in loop.storage.latest().items()}
    losses = [latest.get(name) for name in NAMES]
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    state = {**model.state_dict(), **{f"grad.{n}": p.grad for n, p in trained.items()}}
    if output is not None and rank == 0:
        torch.save({"losses": losses, "state": state}, output)
    return losses, state


def check_same(one, other, tolerance=2e-5):
    losses, state = one
    other_losses, other_state = other
    assert other_losses == pytest.approx(losses, rel=tolerance)
    for name, value in state.items():
        error = (other_state[name] - value).abs().max()
        assert error <= tolerance * value.abs().max() + 1e-9, name


def test_a_batch_is_cut_into_nearly_equal_pieces_in_order_none_empty():
    batch = list(range(5))
    assert split_batch(batch, 1) == [batch]
    assert split_batch(batch, 2) == [[0, 1], [2, 3, 4]]
    assert split_batch(batch, 9) == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize("normalizer", ["image", "gpu", "all_gpus", "ema"])
def test_every_normaliser_gives_the_gradient_of_the_whole_batch(normalizer):
    cfg = tiny_config(NORMALIZER=normalizer)
    check_same(train(1, cfg), train(3, cfg))


def test_offset_and_selected_examples_too():
    cfg = tiny_config(
        NORMALIZER="gpu",
        NORMALIZER_OFFSET=1,
        EXAMPLE_SELECTION="ohem",
        OHEM_NORMALIZER="foreground",
    )
    check_same(train(1, cfg), train(5, cfg))


def test_frozen_batch_norm_too():
    cfg = tiny_config(NORMALIZER="image")
    cfg.MODEL.RESNETS.NORM = "FrozenBN"
    check_same(train(1, cfg), train(2, cfg))


def test_mixed_precision_too():
    cfg = tiny_config(NORMALIZER="ema")
    check_same(train(1, cfg, torch.bfloat16), train(3, cfg, torch.bfloat16), tolerance=0.2)


def train_every_way(folder):
    for normalizer in ("ema", "all_gpus"):
        for steps in (1, 2):
            output = folder / f"{normalizer}{steps}.pth"
            train(steps, tiny_config(NORMALIZER=normalizer), output=output)


def test_two_processes_too(tmp_path):
    launch(train_every_way, 2, dist_url="auto", args=(tmp_path,))
    for normalizer in ("ema", "all_gpus"):
        one, two = (torch.load(tmp_path / f"{normalizer}{steps}.pth") for steps in (1, 2))
        check_same((one["losses"], one["state"]), (two["losses"], two["state"]))


def test_other_models_take_the_mean_over_the_pieces_by_images():
    cfg = tiny_config()
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    (losses, _), batch = train(2, cfg), random_batch(SIZES, OBJECTS, num_classes=4)
    assert all(map(torch.isfinite, map(torch.tensor, losses)))
    torch.manual_seed(0)
    model = build_model(cfg)
    loop = TrainingLoop(model, [batch], torch.optim.SGD(model.parameters(), 0.0))
    loop.accumulation_steps = 2
    with EventStorage(0) as storage:
        loop.run_step()
        found = storage.latest()["loss_box_reg"][0]
        torch.manual_seed(0)
        model = build_model(cfg)
        pieces = [(len(x) / 5, model(x)["loss_box_reg"].item()) for x in split_batch(batch, 2)]
    assert found == pytest.approx(sum(weight * loss for weight, loss in pieces), rel=1e-5)


@pytest.mark.parametrize("key, value", [("OHEM_NORMALIZER", "examples"), ("OHEM_SCOPE", "batch")])
def test_examples_that_belong_to_a_batch_as_a_whole_are_refused(key, value):
    keys = {"EXAMPLE_SELECTION": "ohem", "OHEM_NORMALIZER": "foreground", key: value}
    model = build_model(tiny_config(**keys))
    with pytest.raises(ValueError, match="set MODEL.FOCAL_RETINA.OHEM_NORMALIZER foreground"):
        TrainingLoop(model, [], torch.optim.SGD(model.parameters(), 0.1), accumulation_steps=2)
