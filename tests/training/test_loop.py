"""The loop's steps are Detectron2's, in float32, bfloat16 and float16, on any device."""

import contextlib
import logging
import math
import multiprocessing

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.engine import SimpleTrainer
from detectron2.solver.build import maybe_add_gradient_clipping
from helpers.small_models import line_loop, train
from helpers.tiny_runs import RECORDS, Died, build, noisy

from focal_retina.data.loader import build_train_loader
from focal_retina.errors import UserError

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")),
]


def test_without_options_weights_and_metrics_are_simple_trainers_to_the_bit():
    ours, theirs = line_loop(), line_loop(SimpleTrainer)
    written, expected = train(ours), train(theirs)
    assert torch.equal(ours.model.layer.weight, theirs.model.layer.weight)
    assert written.keys() == expected.keys()
    assert all(written[x] == expected[x] for x in ("loss_a", "loss_b", "total_loss"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixed_precision_is_the_one_asked_for_and_close_to_single(dtype, device):
    single, mixed = line_loop(device=device), line_loop(device=device, dtype=dtype)
    single_loss, mixed_loss = train(single)["total_loss"], train(mixed)["total_loss"]
    assert (single.model.dtype, mixed.model.dtype) == (torch.float32, dtype)
    weight, expected = mixed.model.layer.weight, single.model.layer.weight
    assert weight.dtype == torch.float32
    assert mixed_loss == pytest.approx(single_loss, rel=2e-2)
    torch.testing.assert_close(weight, expected, atol=2e-3, rtol=0)
    assert not torch.equal(weight, expected)


def test_only_float16_scales_its_loss_and_the_state_has_the_scale():
    loop = line_loop(dtype=torch.float16)
    train(loop)
    state = loop.state_dict()
    assert state["grad_scaler"]["scale"] == 2.0**16
    for dtype in (None, torch.bfloat16):
        assert "grad_scaler" not in line_loop(dtype=dtype).state_dict()
    state["grad_scaler"]["scale"], state["skipped_steps"] = 4.0, 7
    again = line_loop(dtype=torch.float16)
    again.load_state_dict(state)
    assert (again.grad_scaler.get_scale(), again.skipped_steps) == (4.0, 7)


def test_a_run_in_another_precision_goes_on_in_float16_and_back():
    single, half = line_loop(), line_loop(dtype=torch.float16)
    half.load_state_dict(single.state_dict())
    single.load_state_dict(half.state_dict())
    assert half.grad_scaler.get_scale() == 2.0**16


def test_a_step_whose_gradients_overflow_float16_is_skipped_counted_and_logged(caplog):
    loop = line_loop(dtype=torch.float16, factor=30.0)
    before = loop.model.layer.weight.clone()
    with caplog.at_level(logging.WARNING):
        written = train(loop, steps=1)
    assert torch.equal(loop.model.layer.weight, before)
    assert written["skipped_steps"] == loop.skipped_steps == 1
    assert "iteration 0" in caplog.text and "now scaled by 32768" in caplog.text


def test_gradients_that_overflow_at_every_scale_end_a_float16_run(tmp_path):
    loop = line_loop(steps=40, dtype=torch.float16, output_dir=str(tmp_path))
    loop.model.layer.weight.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(FloatingPointError, match=r"not the gradients of layer\.weight, on"):
        train(loop, steps=40)
    assert loop.skipped_steps == 33  # down from 2 ** 16 to below 2 ** -16


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_clipping_sees_unscaled_gradients(dtype):
    cfg = get_cfg()
    cfg.SOLVER.CLIP_GRADIENTS.update(ENABLED=True, CLIP_TYPE="norm", CLIP_VALUE=0.01)
    loop = line_loop(dtype=dtype)
    maybe_add_gradient_clipping(cfg, loop.optimizer)
    before = loop.model.layer.weight.clone()
    train(loop, steps=1)
    moved = (loop.model.layer.weight - before).norm().item()
    assert moved == pytest.approx(0.1 * 0.01, rel=1e-3)  # learning rate times the norm


BAD_SCALES = [{"scale": "x"}, {"growth_interval": 1.5}, {"_growth_tracker": -9}, 5]


@pytest.mark.parametrize("scaler", BAD_SCALES, ids=str)
def test_an_unusable_scale_of_gradients_is_refused(scaler):
    state = line_loop(dtype=torch.float16).state_dict()
    state["grad_scaler"] = {**state["grad_scaler"], **scaler} if scaler != 5 else 5
    with pytest.raises(UserError, match="the state of the gradients' scale cannot be used: its"):
        line_loop(dtype=torch.float16).load_state_dict(state)


@pytest.mark.parametrize("die_at", [None, (5, "step")])
def test_data_workers_end_with_the_training_however_it_ends(tmp_path, die_at):
    loader = build_train_loader(RECORDS, mapper=noisy, total_batch_size=3, num_workers=2)
    trainer = build(tmp_path, data_loader=loader, die_at=die_at)
    with pytest.raises(Died) if die_at else contextlib.nullcontext():
        trainer.run()
    assert multiprocessing.active_children() == []
