"""The average of the weights follows its formula, is what is evaluated, and resumes."""

import json

import pytest
import torch
from detectron2.utils.events import EventStorage
from helpers.small_models import line_loop
from helpers.tiny_jobs import run_here, write_jobs

from focal_retina.errors import UserError
from focal_retina.training.ema import ModelEMA

pytestmark = pytest.mark.slow


def step(loop, ema, steps, start=0):
    loop.max_iter = start + steps + 1
    with EventStorage(start) as loop.storage:
        for loop.iter in range(start, start + steps):
            loop.run_step()
            ema.after_step()


def averaged(loop, decay=0.9):
    ema = ModelEMA(loop.model, decay, "")
    ema.trainer = loop
    ema.before_train()
    return ema


def test_each_step_moves_the_average_by_the_decay_which_starts_small():
    loop = line_loop()
    loop.model.register_buffer("table", torch.tensor([5, 7]))
    loop.model.register_buffer("mean", torch.zeros(2, dtype=torch.float64))
    ema, weight = averaged(loop), loop.model.layer.weight
    expected = weight.detach().clone()
    for t in range(3):
        loop.model.mean += 1
        step(loop, ema, 1, start=t)
        decay = min(0.9, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * weight.detach()
    torch.testing.assert_close(ema.model.layer.weight, expected)
    assert ema.model.table.tolist() == [5, 7]
    assert 0 < ema.model.mean[0] < 3
    assert not ema.model.layer.weight.requires_grad


def test_an_average_goes_on_from_its_state_to_the_bit():
    unbroken, first = line_loop(steps=4), line_loop(steps=4)
    whole, ema = averaged(unbroken), averaged(first)
    step(unbroken, whole, 4)
    step(first, ema, 2)
    second = averaged(first)
    second.load_state_dict(ema.state_dict())
    second.before_train()
    step(first, second, 2, start=2)
    assert torch.equal(second.model.layer.weight, whole.model.layer.weight)


@pytest.mark.parametrize("harm", ["a text", {}, {"model": {}}, {"model": {"layer.weight": 3}}])
def test_an_unusable_average_is_refused_with_its_name(harm):
    loop = line_loop()
    loop.register_hooks([averaged(loop)])
    state = loop.state_dict()
    state["hooks"]["ModelEMA"] = harm
    with pytest.raises(UserError, match="^the state of ModelEMA cannot be used: "):
        loop.load_state_dict(state)


def results(folder):
    found = json.loads((folder / "inference/coco_instances_results.json").read_text())
    return sorted(detection["score"] for detection in found)


# Config file, options, and how to say the output folder and the weights.
YAML = (
    "tiny.yaml SOLVER.EMA_DECAY 0.5 SOLVER.BASE_LR 0.01 SOLVER.WARMUP_ITERS 0 "
    "MODEL.RETINANET.SCORE_THRESH_TEST 0.0",
    *("OUTPUT_DIR {}", "MODEL.WEIGHTS {}"),
)
LAZY = (
    "tiny.py train.ema_decay=0.5 optimizer.lr=0.01 model.postprocessor.score_thresh=0.0",
    *("train.output_dir={}", "train.init_checkpoint={}"),
)


@pytest.mark.parametrize(("options", "output", "weights"), [YAML, LAZY], ids=["yaml", "lazy"])
def test_the_average_is_evaluated_and_saved_as_weights(tmp_path, options, output, weights):
    command = f"--config-file {write_jobs(tmp_path)}/{options} {output} "
    run_here(*command.format(tmp_path / "out").split())
    found = {}
    for name in ("model_final", "model_final_ema"):
        given = weights.format(tmp_path / f"out/{name}.pth")
        run_here("--eval-only", *command.format(tmp_path / name).split(), *given.split())
        found[name] = results(tmp_path / name)
    trained = results(tmp_path / "out")
    assert found["model_final_ema"] == pytest.approx(trained, abs=1e-6)
    assert found["model_final"] != pytest.approx(trained, abs=1e-6)
    assert (tmp_path / "out/last_checkpoint").read_text() == "model_final.pth"
    hooks = torch.load(tmp_path / "out/model_final.pth", weights_only=True)["trainer"]["hooks"]
    average = torch.load(tmp_path / "out/model_final_ema.pth", weights_only=True)["model"]
    torch.testing.assert_close(dict(hooks["ModelEMA"]["model"]), dict(average), atol=0, rtol=0)
