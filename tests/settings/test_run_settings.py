"""The keys of a run work together, in either kind of config, and bad values end in a sentence."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from helpers.tiny_jobs import metrics, options, run_here
from omegaconf import DictConfig, OmegaConf

from focal_retina import add_focal_retina_config
from focal_retina.errors import UserError
from focal_retina.settings.flat_keys import dotted_keys, nested_keys
from focal_retina.settings.lazy_parts import clip_gradients
from focal_retina.settings.load import load_settings
from focal_retina.settings.run_settings import RunSettings

CLIPPING = {
    "yaml": ["SOLVER.CLIP_GRADIENTS.ENABLED", True],
    "py": ["train.clip_gradients.clip_type=value"],
}


@pytest.mark.parametrize("kind", CLIPPING)
def test_every_option_together_trains_evaluates_and_keeps_the_best(jobs, tmp_path, kind):
    wanted = {"accumulation_steps": 2, "ema_decay": 0.9, "val_loss": True, "eval_period": 1}
    wanted |= {"best_metric": "val_total_loss", "best_mode": "min", "output_dir": tmp_path}
    run_here("--config-file", jobs / f"tiny.{kind}", *options(kind, **wanted), *CLIPPING[kind])
    found = [line["val_total_loss"] for line in metrics(tmp_path) if "val_total_loss" in line]
    last = metrics(tmp_path)[-1]
    assert found[-1] == pytest.approx(last["val_loss_cls"] + last["val_loss_box_reg"])
    best = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert best["metric"] == "val_total_loss" and best["value"] <= min(found)
    assert best["class_names"] and (tmp_path / "model_final_ema.pth").is_file()


def settings(kind=CfgNode, **values):
    parts = SimpleNamespace(tta_mapper=lambda: None)
    defaults = {"batch_size": 2, "eval_period": 5, "test_datasets": ["a"]}
    return RunSettings(kind(), parts, **{**defaults, **values})


COMPLAINTS = [
    ({"batch_size": 1, "accumulation_steps": 2}, "accumulation_steps", "one process, 1"),
    ({"best_patience": 3}, "best_patience", "names no metric"),
    ({"best_metric": "AP"}, "best_metric", "is a name in metrics.json"),
    ({"best_metric": "val_total_loss"}, "val_loss", "val_total_loss, which needs"),
    ({"best_metric": "bbox/AP", "best_patience": 3, "eval_period": 0}, "eval_period", "is 0"),
    ({"val_loss": True, "test_datasets": []}, "test_datasets", "need a dataset in"),
]


@pytest.mark.parametrize("kind", [CfgNode, DictConfig], ids=["yaml", "lazy"])
@pytest.mark.parametrize("values, name, complaint", COMPLAINTS)
def test_settings_that_do_not_go_together_are_named_by_the_config_s_own_keys(
    values, name, complaint, kind
):
    wrong = settings(partial(kind, {}), **values)
    with pytest.raises(UserError, match=complaint) as error:
        wrong.check()
    assert wrong.key(name) in str(error.value)


def test_settings_at_their_limits_are_fine():
    settings(accumulation_steps=2).check()
    settings(best_metric="bbox/AP").check()


def test_evaluation_alone_asks_nothing_of_the_training_s_settings():
    settings(batch_size=1, accumulation_steps=2).check(trains=False)


@pytest.mark.parametrize(
    "line, complaint",
    [
        ("best = dict(metrc='bbox/AP')", "train.best has metric, mode, patience, not metrc"),
        ("best = 3", "train.best has metric, mode, patience, not 3"),
        ("clip_gradients = dict(value=1.0)", "train.clip_gradients has .*clip_value.*, not value"),
    ],
)
def test_a_misspelt_option_of_a_lazy_config_is_an_error(jobs, tmp_path, line, complaint):
    config = tmp_path / "misspelt.py"
    config.write_text(f"{(jobs / 'tiny.py').read_text()}train.{line}\n")
    with pytest.raises(UserError, match=complaint):
        load_settings(str(config))


def test_clipping_of_a_lazy_config_is_detectron2s():
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, -4.0])
    optimizer = torch.optim.SGD([weight], lr=1.0)
    wanted = {"clip_type": "norm", "clip_value": 0.5}
    clip_gradients(optimizer, OmegaConf.create(wanted)).step()
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.3, 0.4]))


@pytest.mark.parametrize("kind", ["yaml", "py"])
@pytest.mark.parametrize("name, value", [("amp_dtype", "fp8"), ("ema_decay", 1.0), ("max_iter", 0)])
def test_a_value_outside_its_limits_is_named_by_the_config_s_own_key(jobs, kind, name, value):
    key = RunSettings.__dataclass_fields__[name].metadata["keys"][kind == "py"]
    opts = [f"+{key}={value}"] if kind == "py" else [key, value]
    with pytest.raises(UserError, match=f"^{key} is .*; it must be "):
        load_settings(str(jobs / f"tiny.{kind}"), opts)


FIELDS = [f for f in RunSettings.__dataclass_fields__.values() if f.metadata]
BOTH = [(f, kind) for f in FIELDS for kind in (CfgNode, OmegaConf.create)]
# A value of each field that is not its default.
OTHER = {
    **{"register": [["a", "b", "c"]], "train_datasets": ["a"], "test_datasets": ["b"]},
    **{"batch_size": 3, "learning_rate": 0.5, "ema_decay": 0.5, "best_metric": "bbox/AP"},
    **{"max_to_keep": 3, "best_mode": "min", "best_patience": 3, "amp_dtype": "bfloat16"},
    "expected_results": [["bbox", "AP", 1.0, 0.1]],
}


@pytest.mark.parametrize("field, kind", [x for x in BOTH if x[0].name != "log_period"])
def test_every_key_and_its_twin_fill_their_field(field, kind):
    key = field.metadata["keys"][kind is not CfgNode]
    others = {str: "x", int: 7, float: 2.5, bool: not field.default}
    value = OTHER.get(field.name) or others[type(field.default)]
    found = RunSettings.of(kind(nested_keys({key: value})), None)
    assert getattr(found, field.name) == value != field.default
    assert getattr(RunSettings.of(kind({}), None), field.name) == field.default


def test_every_key_of_ours_outside_the_model_fills_a_field():
    ours, detectron2s = get_cfg(), get_cfg()
    add_focal_retina_config(ours)
    added = dotted_keys(ours).keys() - dotted_keys(detectron2s).keys()
    added -= {key for key in added if key.startswith("MODEL.FOCAL_RETINA")}
    assert added - {"TEST.AMP", "TEST.BEST"} <= {f.metadata["keys"][0] for f in FIELDS}


@pytest.mark.parametrize(
    "kind, opts, resize, boxes_only",
    [
        ("yaml", [], (64, 1333), True),
        ("yaml", ["INPUT.MIN_SIZE_TRAIN", "(300, 200)"], (200, 1333), True),
        ("yaml", ["MODEL.MASK_ON", "True"], (64, 1333), False),
        ("yaml", ["MODEL.KEYPOINT_ON", "True"], (64, 1333), False),
        ("py", [], (64, 1333), True),
        ("py", ["dataloader.train.mapper.use_instance_mask=True"], (64, 1333), False),
        ("py", ["dataloader.train.mapper.use_keypoint=True"], (64, 1333), False),
        ("py", ["dataloader.train.mapper.augmentations=[]"], None, True),
        ("py", ["dataloader.train.mapper._target_=mine.Mapper"], (64, 1333), False),
    ],
)
def test_parts_say_how_small_images_become_and_whether_only_boxes_are_read(
    jobs, kind, opts, resize, boxes_only
):
    parts = load_settings(str(jobs / f"tiny.{kind}"), opts).parts
    assert (parts.smallest_resize(), parts.boxes_only()) == (resize, boxes_only)
