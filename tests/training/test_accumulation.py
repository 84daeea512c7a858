"""A step in pieces is the step of the whole batch, up to rounding."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from helpers.batches import random_batch
from helpers.processes import run_processes
from helpers.small_models import tiny_config
from torch.nn.parallel import DistributedDataParallel

import focal_retina  # noqa: F401  the spawned processes need the registered parts
from focal_retina.modeling.selection import HardExampleSelection
from focal_retina.training.accumulation import split_batch
from focal_retina.training.loop import TrainingLoop

# Pieces of one, one without objects, sizes that the whole batch pads.
SIZES = [(64, 64), (64, 96), (96, 64), (64, 64), (32, 96)]
OBJECTS = [0, 3, 1, 0, 6]
NAMES = ("loss_cls", "loss_box_reg", "total_loss")


def step(pieces, cfg, dtype=None, selection=None):
    """Take one step; return the losses, the gradient as one vector, and the normaliser's mean."""
    torch.set_num_threads(1)
    rank, world = comm.get_rank(), comm.get_world_size()
    torch.manual_seed(0)
    model = build_model(cfg)
    if selection is not None:
        model.loss.example_selection = selection
    batch = random_batch(SIZES * world, OBJECTS * world, num_classes=4)[rank::world]
    wrapped = DistributedDataParallel(model, broadcast_buffers=False) if world > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), 0.002)
    loop = TrainingLoop(wrapped, [batch], optimizer, dtype=dtype, accumulation_steps=pieces)
    if dtype == torch.float16:
        loop.grad_scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    with EventStorage(0) as storage:
        loop.run_step()
        losses = {name: storage.latest()[name][0] for name in NAMES if name in storage.latest()}
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
    mean = model.state_dict().get("loss.normalizer.foreground_ema", torch.zeros(()))
    return losses, gradient, mean.item()


def check_same(whole, pieces, tolerance=1e-5):
    """Compare the gradient as a whole: rounding may flip a ReLU, of which its part changes."""
    losses, gradient, mean = whole
    assert pieces[0] == pytest.approx(losses, rel=tolerance)
    assert pieces[2] == mean
    assert (pieces[1] - gradient).norm() <= 100 * tolerance * gradient.norm()


def test_a_batch_is_cut_into_nearly_equal_pieces_in_order_none_empty():
    batch = list(range(5))
    assert split_batch(batch, 1) == [batch]
    assert split_batch(batch, 2) == [[0, 1], [2, 3, 4]]
    assert split_batch(batch, 9) == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize("normalizer", ["image", "gpu", "all_gpus", "ema"])
def test_every_normaliser_gives_the_gradient_of_the_whole_batch(normalizer):
    cfg = tiny_config(NORMALIZER=normalizer)
    check_same(step(1, cfg), step(3, cfg))


def test_offset_and_selected_examples_too():
    cfg = tiny_config(NORMALIZER="gpu", NORMALIZER_OFFSET=1)
    selection = HardExampleSelection(normalizer="foreground")
    check_same(*(step(pieces, cfg, selection=selection) for pieces in (1, 5)))


def test_frozen_batch_norm_too():
    cfg = tiny_config(NORMALIZER="image")
    cfg.MODEL.RESNETS.NORM = "FrozenBN"
    check_same(step(1, cfg), step(2, cfg))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_too(dtype):
    cfg = tiny_config(NORMALIZER="ema")
    check_same(step(1, cfg, dtype), step(3, cfg, dtype), tolerance=1e-3)


def steps_of_a_process(folder):
    for kind in ("ema", "all_gpus"):
        for pieces in (1, 2):
            path = folder / f"{kind}-{pieces}-{comm.get_rank()}.pth"
            torch.save(step(pieces, tiny_config(NORMALIZER=kind)), path)


def test_two_processes_too(tmp_path):
    run_processes(2, steps_of_a_process, tmp_path)
    for kind in ("ema", "all_gpus"):
        for rank in (0, 1):
            check_same(*(torch.load(tmp_path / f"{kind}-{pieces}-{rank}.pth") for pieces in (1, 2)))


def test_other_models_take_the_mean_over_the_pieces_by_images():
    cfg = tiny_config()
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    losses, _, _ = step(2, cfg)
    torch.manual_seed(0)
    model = build_model(cfg)
    pieces = split_batch(random_batch(SIZES, OBJECTS, num_classes=4), 2)
    with EventStorage(0):
        means = [(len(piece) / 5, model(piece)["loss_box_reg"].item()) for piece in pieces]
    assert losses["loss_box_reg"] == pytest.approx(sum(w * x for w, x in means), rel=1e-5)


@pytest.mark.parametrize("change", [{"normalizer": "examples"}, {"scope": "batch"}])
def test_examples_that_belong_to_a_batch_as_a_whole_are_refused(change):
    model = build_model(tiny_config())
    model.loss.example_selection = HardExampleSelection(**{"normalizer": "foreground", **change})
    with pytest.raises(ValueError, match="example_selection.normalizer foreground and scope image"):
        TrainingLoop(model, [], torch.optim.SGD(model.parameters(), 0.1), accumulation_steps=2)
