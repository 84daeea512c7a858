"""The best weights are kept, a run without gain stops, and both survive a resume."""

import logging
import math
import os
from types import SimpleNamespace

import pytest
import torch
from detectron2.config import CfgNode
from helpers.small_models import line_loop

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.detectron2_internals import hooks_of
from focal_retina.errors import TrainingError, UserError
from focal_retina.settings.run_settings import RunSettings
from focal_retina.training.ema import ModelEMA
from focal_retina.training.hooks import build_hooks


def run(folder, metrics, *, iterations=6, resume=False, **options):
    """Train with an evaluation after each iteration, which finds the given values of bbox/AP.

    A value may be a dictionary, in the place of all that an evaluation of boxes finds.
    """
    loop, values, weights = line_loop(steps=iterations), iter(metrics), []
    loop.checkpointer = FocalCheckpointer(loop.model, str(folder), trainer=loop)

    def evaluate(model):
        weights.append(model.layer.weight.detach().clone())
        found = next(values)
        return {"bbox": found if isinstance(found, dict) else {"AP": found, "AP50": 1.0}}

    loop.scheduler = torch.optim.lr_scheduler.ConstantLR(loop.optimizer, 1.0)
    options = {"best_metric": "bbox/AP", "eval_period": 1, "checkpoint_period": 1, **options}
    parts = SimpleNamespace(precise_bn=lambda model: None)
    settings = RunSettings(CfgNode(), parts, output_dir=str(folder), **options)
    loop.register_hooks(build_hooks(loop, settings, [(1, evaluate)]))
    start = 0
    if resume:
        loop.checkpointer.resume_or_load("", resume=True)
        start = loop.iter + 1
    loop.train(start, iterations)
    return loop, weights


def best(folder):
    return torch.load(folder / "model_best.pth", weights_only=True)


def test_the_best_weights_are_kept_with_their_metric(tmp_path):
    _, weights = run(tmp_path, [1, 3, math.nan, 2, 3, 2])
    kept = best(tmp_path)
    assert (kept["iteration"], kept["metric"], kept["value"]) == (1, "bbox/AP", 3)
    assert torch.equal(kept["model"]["layer.weight"], weights[1])
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_the_evaluation_after_training_counts_and_min_is_better(tmp_path):
    run(tmp_path, [5, 4, 5, 5, 5, 3], best_mode="min")
    assert (best(tmp_path)["iteration"], best(tmp_path)["value"]) == (5, 3)
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_with_an_average_the_best_weights_are_its(tmp_path):
    loop, weights = run(tmp_path, [1, 2, 3, 4, 5, 6], ema_decay=0.9)
    assert torch.equal(best(tmp_path)["model"]["layer.weight"], weights[-1])
    assert not torch.equal(weights[-1], loop.model.layer.weight)


def test_a_run_without_gain_stops_with_a_final_checkpoint_and_says_so(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        loop, weights = run(tmp_path, [1, 3, 2, 3], best_patience=2, ema_decay=0.9)
    assert len(weights) == 4
    assert "stopping early after iteration 3: bbox/AP has not been better than 3" in caplog.text
    assert "Traceback" not in caplog.text and "Exception" not in caplog.text
    final = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert torch.equal(final["model"]["layer.weight"], loop.model.layer.weight)
    assert final["trainer"]["iteration"] == 3
    average = torch.load(tmp_path / "model_final_ema.pth", weights_only=True)
    assert torch.equal(average["model"]["layer.weight"], weights[-1])


def test_a_stopped_run_is_not_resumed_unless_patience_grows(tmp_path, caplog):
    run(tmp_path, [1, 3, 2, 3], best_patience=2)
    with caplog.at_level(logging.INFO):
        _, weights = run(tmp_path, [9], best_patience=2, resume=True)
    assert weights == []
    assert "the run was stopped early" in caplog.text
    _, weights = run(tmp_path, [3, 2], best_patience=3, resume=True, iterations=6)
    assert len(weights) == 2  # that of the checkpoint again, and the third without gain


def test_the_best_so_far_and_the_count_survive_a_resume(tmp_path):
    run(tmp_path, [1, 5, 2], iterations=3)
    # As if killed after iteration 2.
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    loop, _ = run(tmp_path, [2, 3, 4], best_patience=2, resume=True)
    assert best(tmp_path)["value"] == 5
    assert loop.iter == 3


def test_a_finished_run_that_goes_on_knows_its_last_evaluation(tmp_path):
    run(tmp_path, [1, 2, 5], iterations=3)
    run(tmp_path, [3, 4, 4], iterations=6, resume=True)
    assert (best(tmp_path)["value"], best(tmp_path)["iteration"]) == (5, 2)


def test_the_ap_of_a_class_that_is_missing_is_no_number_and_not_the_one_before(tmp_path):
    nothing, found = {"AP": math.nan}, {"AP": 2.0, "AP-ant": 3.0}
    loop, weights = run(
        tmp_path, [nothing, found, nothing, nothing], best_metric="bbox/AP-ant", best_patience=2
    )
    assert (best(tmp_path)["iteration"], best(tmp_path)["value"]) == (1, 3)
    assert len(weights) == 4


def test_an_unknown_metric_is_named_at_the_first_evaluation_with_those_there_are(tmp_path):
    with pytest.raises(TrainingError) as error:
        run(tmp_path, [1], best_metric="AP50")
    message = str(error.value)
    assert "the evaluation has no 'AP50'; did you mean" in message
    assert message.endswith("it has bbox/AP, bbox/AP50")


def half(path):
    path.write_bytes(path.read_bytes()[:300])


def foreign(path):
    """As Detectron2's ``BestCheckpointer`` writes it."""
    torch.save({"model": torch.load(path, weights_only=True)["model"], "iteration": 1}, path)


def with_text(path):
    torch.save({**torch.load(path, weights_only=True), "value": "good"}, path)


@pytest.mark.parametrize("harm", [half, foreign, with_text])
def test_a_best_model_that_cannot_be_used_is_named_and_written_anew(tmp_path, harm, caplog):
    run(tmp_path, [1, 9, 2], iterations=3)
    harm(tmp_path / "model_best.pth")
    run(tmp_path, [3, 4, 4], iterations=6, resume=True)
    assert f"{tmp_path}/model_best.pth" in caplog.text
    assert "The next evaluation writes it anew" in caplog.text
    assert (best(tmp_path)["value"], best(tmp_path)["iteration"]) == (4, 4)


def test_a_pipe_in_the_place_of_the_best_model_is_not_opened(tmp_path):
    run(tmp_path, [1, 9, 2], iterations=3)
    (tmp_path / "model_best.pth").unlink()
    os.mkfifo(tmp_path / "model_best.pth")
    run(tmp_path, [3, 4, 4], iterations=6, resume=True)


HOSTILE = [{"best": "high"}, {"without_gain": None}, {"judged_iter": 1.5}, {"best_iter": []}]


@pytest.mark.parametrize("state", HOSTILE, ids=str)
def test_a_record_of_another_kind_is_refused(tmp_path, state):
    run(tmp_path, [1, 9, 2], iterations=3)
    path = tmp_path / "model_final.pth"
    content = torch.load(path, weights_only=True)
    content["trainer"]["hooks"]["BestModel"].update(state)
    torch.save(content, path)
    with pytest.raises(UserError, match="the state of BestModel cannot be used: its"):
        run(tmp_path, [], iterations=6, resume=True)


def test_an_average_that_cannot_be_written_costs_no_weights_and_comes_with_a_resume(
    tmp_path, caplog
):
    (tmp_path / "model_final_ema.pth").mkdir()
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, [1] * 6, ema_decay=0.5)
    assert ended.value.code == 2
    assert f"checkpoint {tmp_path}/model_final_ema.pth cannot be written" in caplog.text
    assert "the run ends here: make it writable and go on with --resume" in caplog.text
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    (tmp_path / "model_final_ema.pth").rmdir()
    loop, _ = run(tmp_path, [1] * 6, ema_decay=0.5, resume=True)
    (ema,) = [hook for hook in hooks_of(loop) if isinstance(hook, ModelEMA)]
    saved = torch.load(tmp_path / "model_final_ema.pth", weights_only=True)["model"]
    torch.testing.assert_close(dict(saved), dict(ema.model.state_dict()), atol=0, rtol=0)
