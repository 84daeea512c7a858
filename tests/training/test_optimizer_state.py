"""A resumed optimizer has the state of the checkpoint, and the options of the config."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.engine import hooks
from detectron2.solver import LRMultiplier
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.utils.events import EventStorage
from fvcore.common.param_scheduler import LinearParamScheduler
from torch import nn
from torch.optim import SGD, Adam

from focal_retina.detectron2_internals import hooks_of
from focal_retina.states import StateError
from focal_retina.training.loop import TrainingLoop
from focal_retina.training.resume import ExactResume


def loop(kind=SGD, *, bias=None, parts=(0, 1), **options):
    """Return a loop over two layers, those of ``parts`` learned; ``bias`` are options of biases."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    groups = [{"params": [model[i].weight for i in parts]}]
    if bias is None:
        groups[0]["params"] += [model[i].bias for i in parts]
    else:
        groups.append({"params": [model[i].bias for i in parts], **bias})
    options = {"lr": 0.5, **({"momentum": 0.9} if kind is SGD else {}), **options}
    made = TrainingLoop(model, [], kind(groups, **options))
    made.iter = 3
    return made


def stepped(made):
    for parameter in made.model.parameters():
        parameter.grad = torch.full_like(parameter, float(parameter.numel()))
    made.optimizer.step()
    return made


def entries(made):
    """Return what the optimizer knows of each parameter, by name."""
    return {n: made.optimizer.state[p] for n, p in made.model.named_parameters()}


@pytest.mark.parametrize("groups", [None, {}, {"lr": 2.0}])
@pytest.mark.parametrize("kind", [SGD, Adam])
def test_with_the_same_options_nothing_changes(kind, groups, caplog):
    first, second = stepped(loop(kind, bias=groups)), loop(kind, bias=groups)
    state = first.state_dict()
    second.load_state_dict(state)
    assert repr(second.optimizer.state_dict()) == repr(state["optimizer"])
    assert "changed" not in caplog.text


@pytest.mark.parametrize(
    ("option", "value"), [("momentum", 0.5), ("weight_decay", 0.25), ("nesterov", True)]
)
def test_an_option_that_was_changed_gets_its_new_value_with_a_warning(option, value, caplog):
    first, second = stepped(loop()), loop(**{option: value})
    second.load_state_dict(first.state_dict())
    assert second.optimizer.param_groups[0][option] == value
    assert f"{option} " in caplog.text
    assert f" -> {value}. The new values count" in caplog.text
    assert entries(second).keys() == entries(first).keys()


@pytest.mark.parametrize(("then", "now"), [(None, {"lr": 1.0}), ({"lr": 1.0}, None)])
def test_parameters_in_other_groups_keep_their_own_momentum(then, now):
    first, second = stepped(loop(bias=then)), loop(bias=now)
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(entries(second), entries(first), atol=0, rtol=0)
    rates = {p: g["lr"] for g in second.optimizer.param_groups for p in g["params"]}
    assert rates[second.model[0].bias] == (0.5 if now is None else 1.0)


def test_what_an_optimizer_counts_in_its_groups_is_kept():
    first, second = loop(), loop()
    first.optimizer.param_groups[0]["weight_decay"] = 0.125  # not by the config
    second.load_state_dict(first.state_dict())
    assert second.optimizer.param_groups[0]["weight_decay"] == 0.125


def test_clipping_is_no_other_kind_of_optimizer():
    cfg = get_cfg()
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    clipping = loop(maybe_add_gradient_clipping(cfg, SGD), momentum=0.9)
    clipping.load_state_dict(stepped(loop()).state_dict())
    assert len(clipping.optimizer.state) == 4


def test_a_group_without_parameters_stays():
    first, second = loop(), loop()
    for made in (first, second):
        made.optimizer.add_param_group({"params": []})
    second.load_state_dict(stepped(first).state_dict())
    assert second.optimizer.param_groups[1]["params"] == []


def test_another_kind_is_refused():
    with pytest.raises(StateError, match="^its optimizer is SGD, and now it is Adam$"):
        loop(Adam).load_state_dict(stepped(loop()).state_dict())


@pytest.mark.parametrize(("then", "now"), [((0, 1), (1,)), ((1,), (0, 1))])
def test_other_weights_to_train_are_refused_with_one_of_them(then, now):
    with pytest.raises(StateError, match=r"and now there are \d: 0.bias is in one of them only"):
        loop(parts=now).load_state_dict(stepped(loop(parts=then)).state_dict())


@pytest.mark.parametrize("momentum", [torch.ones(7, 2), "fast", [1, 2]])
def test_a_momentum_that_does_not_fit_its_weight_is_refused(momentum):
    state = stepped(loop()).state_dict()
    state["optimizer"]["state"][0]["momentum_buffer"] = momentum
    with pytest.raises(StateError, match="the state of the optimizer cannot be used"):
        loop().load_state_dict(state)


def test_a_state_of_before_options_were_kept_is_taken():
    state = stepped(loop()).state_dict()
    del state["solver"]
    second = loop(momentum=0.1)
    second.load_state_dict(state)
    assert second.optimizer.param_groups[0]["momentum"] == 0.9


def scheduled(lr, iterations):
    """Return a loop whose learning rate falls to 0 along a line, after 4 iterations."""
    made = loop(lr=lr)
    multiplier = LRMultiplier(made.optimizer, LinearParamScheduler(1, 0), iterations)
    made.register_hooks([hooks.LRScheduler(scheduler=multiplier), ExactResume()])
    made.start_iter, made.storage = 4, EventStorage(4)
    return made


@pytest.mark.parametrize(("lr", "iterations"), [(2, 8), (3, 8), (2, 16)])
def test_rate_and_schedule_are_the_configs_from_the_first_resumed_iteration(lr, iterations):
    first, second = scheduled(2, 8), scheduled(lr, iterations)
    first.max_iter, second.max_iter = 8, 16  # nothing of iteration 3 is to be finished
    second.load_state_dict(first.state_dict())
    second.before_train()
    assert second.optimizer.param_groups[0]["lr"] == lr * (1 - 4 / iterations)
    hooks_of(second)[0].scheduler.step()
    assert second.optimizer.param_groups[0]["lr"] == lr * (1 - 5 / iterations)
