"""The step of micro-batches is the step of the whole batch, up to rounding."""

from functools import partial

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from helpers.batches import random_batch
from helpers.processes import run_processes
from helpers.small_models import tiny_config, tiny_model
from torch.nn.parallel import DistributedDataParallel

import focal_retina  # noqa: F401  the spawned processes need the registered parts
from focal_retina.errors import UserError
from focal_retina.modeling.normalizer import LossNormalizer
from focal_retina.modeling.selection import HardExampleSelection
from focal_retina.training.loop import TrainingLoop, split_batch

# Micro-batches of one image, one without objects, sizes that the whole batch pads.
SIZES = [(64, 64), (64, 96), (96, 64), (64, 64), (32, 96)]
OBJECTS = [0, 3, 1, 0, 6]
NAMES = ("loss_cls", "loss_box_reg", "total_loss")


def step(micro_batches, model, dtype=None):
    """Take one step; return the losses, the gradient as one vector, and the normaliser's mean."""
    torch.set_num_threads(1)
    rank, world = comm.get_rank(), comm.get_world_size()
    batch = random_batch(SIZES * world, OBJECTS * world, num_classes=4)[rank::world]
    wrapped = DistributedDataParallel(model, broadcast_buffers=False) if world > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), 0.002)
    loop = TrainingLoop(wrapped, [batch], optimizer, dtype=dtype, accumulation_steps=micro_batches)
    if dtype == torch.float16:
        loop.grad_scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    with EventStorage(0) as storage:
        loop.run_step()
        # The main process alone writes losses.
        losses = {name: storage.latest()[name][0] for name in NAMES if comm.is_main_process()}
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
    mean = model.state_dict().get("loss.normalizer.foreground_ema", torch.zeros(()))
    return losses, gradient, mean.item()


def check_same(whole, parts, tolerance=1e-5):
    """Compare the gradient as a whole: rounding may flip a ReLU, of which its part changes."""
    losses, gradient, mean = whole
    assert parts[0] == pytest.approx(losses, rel=tolerance)
    assert parts[2] == mean
    assert (parts[1] - gradient).norm() <= 100 * tolerance * gradient.norm()


def test_a_batch_is_cut_into_nearly_equal_micro_batches_in_order_none_empty():
    batch = list(range(5))
    assert split_batch(batch, 1) == [batch]
    assert split_batch(batch, 2) == [[0, 1], [2, 3, 4]]
    assert split_batch(batch, 9) == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize(
    ("micro_batches", "norm", "keys"),
    [
        *((3, "GN", {"NORMALIZER": kind}) for kind in ("image", "gpu", "all_gpus", "ema")),
        (5, "GN", {"NORMALIZER": "gpu", "NORMALIZER_OFFSET": 1}),
        (2, "FrozenBN", {"NORMALIZER": "image"}),
    ],
)
def test_every_normaliser_gives_the_gradient_of_the_whole_batch(micro_batches, norm, keys):
    models = [tiny_model({"MODEL.RESNETS.NORM": norm}, **keys) for _ in range(2)]
    check_same(step(1, models[0]), step(micro_batches, models[1]))


def with_hard_examples(**arguments):
    model = tiny_model(NORMALIZER="gpu", NORMALIZER_OFFSET=1)
    model.loss.example_selection = HardExampleSelection(**arguments)
    return model


def test_so_do_examples_selected_in_each_image_and_divided_by_the_foreground():
    models = [with_hard_examples(normalizer="foreground") for _ in range(2)]
    check_same(step(1, models[0]), step(5, models[1]))


@pytest.mark.parametrize("arguments", [{}, {"normalizer": "foreground", "scope": "batch"}])
def test_examples_that_belong_to_a_batch_as_a_whole_are_refused(arguments):
    model = with_hard_examples(**arguments)
    build = partial(TrainingLoop, model, [], torch.optim.SGD(model.parameters(), 0.1))
    with pytest.raises(UserError, match="OHEM .* set SOLVER.ACCUMULATION_STEPS"):
        build(accumulation_steps=2)
    build(accumulation_steps=1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_too(dtype):
    whole, parts = (step(count, tiny_model(NORMALIZER="ema"), dtype) for count in (1, 3))
    check_same(whole, parts, tolerance=1e-3)


def steps_of_a_process(folder):
    for kind in ("ema", "all_gpus"):
        for count in (1, 2):
            path = folder / f"{kind}-{count}-{comm.get_rank()}.pth"
            torch.save(step(count, tiny_model(NORMALIZER=kind)), path)


@pytest.mark.distributed
@pytest.mark.slow
def test_two_processes_too(tmp_path):
    run_processes(2, steps_of_a_process, tmp_path)
    for kind in ("ema", "all_gpus"):
        for rank in (0, 1):
            check_same(*(torch.load(tmp_path / f"{kind}-{count}-{rank}.pth") for count in (1, 2)))


class PlainNormalizer(torch.nn.Module):
    """A user's own, which cannot put the division off."""

    def forward(self, num_foreground):
        return LossNormalizer(kind="gpu")(num_foreground)


def other_models():
    cfg = tiny_config()
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    torch.manual_seed(0)
    yield build_model(cfg)
    model = tiny_model()
    model.loss.normalizer = PlainNormalizer()
    yield model


def test_other_models_and_normalisers_take_the_mean_over_images():
    parts = split_batch(random_batch(SIZES, OBJECTS, num_classes=4), 2)
    for model, again in zip(other_models(), other_models(), strict=True):
        losses, _, _ = step(2, model)
        with EventStorage(0):
            means = [(len(part) / 5, again(part)["loss_box_reg"].item()) for part in parts]
        assert losses["loss_box_reg"] == pytest.approx(sum(w * x for w, x in means), rel=1e-5)
