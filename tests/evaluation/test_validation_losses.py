"""Validation losses are those of the images as one batch, and leave everything as it was."""

import random

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from helpers.processes import run_processes
from helpers.small_models import tiny_batch, tiny_config, tiny_model
from helpers.tiny_jobs import catalogs_restored

from focal_retina.data import mapper
from focal_retina.engine import job
from focal_retina.errors import ImageError
from focal_retina.evaluation.validation_losses import validation_losses

IMAGES = tiny_batch([2, 0, 1, 4, 3], (64, 96))


def losses_of_one_batch(images, **keys):
    """Return them under their names in validation."""
    with EventStorage():
        losses = tiny_model(**keys).train()(images)
    total = sum(losses.values()).item()
    return {f"val_{n}": x.item() for n, x in losses.items()} | {"val_total_loss": total}


def random_states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize(
    "kind, as_kind, offset",
    [("image", "image", 0), ("gpu", "gpu", 1), ("all_gpus", "gpu", 0), ("ema", "gpu", 0)],
)
def test_they_are_the_losses_of_all_images_as_one_batch(kind, as_kind, offset, count):
    images = IMAGES[:count]
    model = tiny_model(NORMALIZER=kind, NORMALIZER_OFFSET=offset)
    found = validation_losses(model, [[x] for x in images])
    expected = losses_of_one_batch(images, NORMALIZER=as_kind, NORMALIZER_OFFSET=offset)
    assert found == pytest.approx(expected, rel=1e-4)


def test_of_selected_examples_they_are_the_mean_over_images():
    keys = {"NORMALIZER": "gpu", "EXAMPLE_SELECTION": "ohem", "OHEM_BATCH_SIZE": 8}
    found = validation_losses(tiny_model(**keys), [[x] for x in IMAGES])
    expected = losses_of_one_batch(IMAGES, **keys)
    assert found["val_loss_cls"] == pytest.approx(expected["val_loss_cls"], rel=1e-4)


@pytest.mark.parametrize("architecture", ["FocalRetinaNet", "RetinaNet"])
def test_model_and_random_states_are_untouched(architecture):
    cfg = tiny_config(NORMALIZER="ema")
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.RESNETS.NORM = architecture, "BN"
    model = build_model(cfg).train()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    normalizer = getattr(model, "loss_normalizer", None)
    states = random_states()

    def loader():
        for x in IMAGES:
            random.random(), np.random.rand(), torch.rand(1)
            yield [x]

    found = validation_losses(model, loader())
    assert set(found) == {"val_loss_cls", "val_loss_box_reg", "val_total_loss"}
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert getattr(model, "loss_normalizer", None) == normalizer
    assert all(module.training for module in model.modules())
    assert random_states() == states


def test_no_objects_at_all_give_finite_losses():
    found = validation_losses(tiny_model(NORMALIZER="gpu"), [tiny_batch([0])])
    assert found["val_loss_box_reg"] == 0 and np.isfinite(found["val_loss_cls"])


def one_of_two_processes(folder):
    torch.set_num_threads(1)
    rank = comm.get_rank()
    share = [[x] for x in (IMAGES[:4] if rank == 0 else IMAGES[4:])]
    torch.save(validation_losses(tiny_model(NORMALIZER="ema"), share), folder / f"{rank}.pth")


@pytest.mark.slow
@pytest.mark.distributed
def test_processes_share_the_images_and_have_the_same_losses(tmp_path):
    run_processes(2, one_of_two_processes, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1))
    assert first == second
    whole = validation_losses(tiny_model(NORMALIZER="ema"), [[x] for x in IMAGES])
    assert first == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("kind", ["yaml", "py"])
def test_pictures_are_read_as_in_training(jobs, monkeypatch, kind):
    def read(file_name, format=None):
        raise ImageError(f"asked for {format}")

    monkeypatch.setattr(mapper, "read_picture", read)
    zero = ["DATALOADER.NUM_WORKERS", "0"] if kind == "yaml" else ["dataloader.test.num_workers=0"]
    with catalogs_restored():
        settings = job.load(str(jobs / f"tiny.{kind}"), zero)
        with pytest.raises(ImageError, match="asked for (BGR|RGB)"):
            next(iter(settings.parts.validation_loader()))
