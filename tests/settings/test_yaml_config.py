"""YAML configs are loaded safely, and their mistakes explained in one sentence."""

import pytest
from detectron2 import model_zoo

from focal_retina.errors import UserError
from focal_retina.settings.yaml_config import load_yaml


def write(folder, text):
    (folder / "a.yaml").write_text(text)
    return str(folder / "a.yaml")


def test_a_python_tag_runs_only_in_a_trusted_config(tmp_path):
    tagged = f"SOLVER: {{WEIGHT_DECAY_BIAS: !!python/object/apply:os.mkdir ['{tmp_path}/made']}}"
    config = write(tmp_path, f"VERSION: 2\n{tagged}\n")
    with pytest.raises(ValueError, match=r"a.yaml, line 2, has a Python tag .*--trust-config"):
        load_yaml(config)
    assert not (tmp_path / "made").exists()
    load_yaml(config, trust_config=True)
    assert (tmp_path / "made").exists()


def test_detectron2s_own_retinanet_needs_trust_because_of_its_base():
    config = model_zoo.get_config_file("COCO-Detection/retinanet_R_50_FPN_1x.yaml")
    with pytest.raises(ValueError, match="Base-RetinaNet.yaml, line 8, has a Python tag"):
        load_yaml(config)
    sizes = load_yaml(config, trust_config=True).MODEL.ANCHOR_GENERATOR.SIZES
    assert [len(level) for level in sizes] == [3] * 5


def test_overrides_win_over_the_file_and_the_file_over_its_base(tmp_path):
    (tmp_path / "base.yaml").write_text("SOLVER: {MAX_ITER: 1, IMS_PER_BATCH: 1, BASE_LR: 1.0}")
    config = write(tmp_path, "_BASE_: base.yaml\nVERSION: 2\nSOLVER: {MAX_ITER: 2, BASE_LR: 2.0}")
    solver = load_yaml(config, ["SOLVER.BASE_LR", "3.0"]).SOLVER
    assert (solver.IMS_PER_BATCH, solver.MAX_ITER, solver.BASE_LR) == (1, 2, 3.0)


@pytest.mark.parametrize(
    "key, suggestion",
    [
        ("BASE_LR", "SOLVER.BASE_LR"),
        ("NUM_CLASSES", "MODEL.RETINANET.NUM_CLASSES"),
        ("SOLVER.BASE_RL", "SOLVER.BASE_LR"),
        ("RETINANET", "MODEL.RETINANET"),
        ("MODEL.FOCAL_RETINA.NORMALISER", "MODEL.FOCAL_RETINA.NORMALIZER"),
    ],
)
def test_an_unknown_key_comes_with_the_closest_one(tmp_path, key, suggestion):
    *nodes, leaf = key.split(".")
    nested = "".join(f"{node}: {{" for node in nodes) + f"{leaf}: 1" + "}" * len(nodes)
    message = rf"there is no key {key}; did you mean {suggestion}\?"
    with pytest.raises(ValueError, match=f"the command line: {message}"):
        load_yaml(write(tmp_path, "VERSION: 2"), [key, "1"])
    with pytest.raises(ValueError, match=f"a.yaml: {message}"):
        load_yaml(write(tmp_path, f"VERSION: 2\n{nested}"))


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("VERSION: 2\nSOLVER: {MAX_ITER: many}", "SOLVER.MAX_ITER takes a int, not the str 'many'"),
        ("VERSION: 2\nSOLVER: 3", "SOLVER takes keys with values, not the int 3"),
        ("VERSION: 2\nMODEL: {META_ARCHITECTURE: FocalRetinaNt}", "mean FocalRetinaNet"),
        ("VERSION: 2\nMODEL: {BACKBONE: {NAME: resnet}}", "MODEL.BACKBONE.NAME: .*'resnet'"),
        ("VERSION: 2\nMODEL: {ANCHOR_GENERATOR: {NAME: x}}", "MODEL.ANCHOR_GENERATOR.NAME: .*'x'"),
        ("VERSION: 2\nMODEL: {RPN: {HEAD_NAME: FocalRetinaHaed}}", "mean FocalRetinaHead"),
        (
            "VERSION: 2\nMODEL: {PROPOSAL_GENERATOR: {NAME: Mine}}",
            "MODEL.PROPOSAL_GENERATOR.NAME: .*'Mine'; if it is a part of yours, import the module",
        ),
        ("_BASE_: none.yaml", "a.yaml: its _BASE_ .*none.yaml does not exist"),
        ("SOLVER: [", "a.yaml is not valid YAML"),
        ("SOLVER: !mine 1", "a.yaml is not valid YAML: .*!mine"),
        ("", "a.yaml: "),
    ],
)
def test_a_mistake_in_the_file_is_a_value_error_that_names_it(tmp_path, text, complaint):
    with pytest.raises(ValueError, match=f"(?s){complaint}"):
        load_yaml(write(tmp_path, text))


def test_an_override_without_value_is_a_value_error(tmp_path):
    with pytest.raises(
        ValueError, match="command line: .*SOLVER.BASE_LR.* no list of KEY VALUE pairs"
    ):
        load_yaml(write(tmp_path, "VERSION: 2"), ["SOLVER.BASE_LR"])


def test_every_file_is_read_once_however_often_it_is_named(tmp_path, monkeypatch):
    for i in range(30):
        base = f"_BASE_: [{i + 1}.yaml, ./{i + 1}.yaml]\n"
        (tmp_path / f"{i}.yaml").write_text(base + f"SOLVER: {{MAX_ITER: {100 - i}}}")
    (tmp_path / "30.yaml").write_text("VERSION: 2\nSOLVER: {IMS_PER_BATCH: 3}")
    solver = load_yaml(str(tmp_path / "0.yaml")).SOLVER  # by each way to each file: 2^30 readings
    assert (solver.MAX_ITER, solver.IMS_PER_BATCH) == (100, 3)


def test_a_base_that_two_files_share_is_not_changed_by_one_of_them(tmp_path):
    (tmp_path / "base.yaml").write_text("VERSION: 2\nSOLVER: {BASE_LR: 1.0, MOMENTUM: 0.5}")
    (tmp_path / "b.yaml").write_text("_BASE_: base.yaml\nSOLVER: {BASE_LR: 2.0}")
    (tmp_path / "c.yaml").write_text("_BASE_: base.yaml\nSOLVER: {MOMENTUM: 0.6}")
    solver = load_yaml(write(tmp_path, "_BASE_: [b.yaml, c.yaml]")).SOLVER
    assert (solver.BASE_LR, solver.MOMENTUM) == (1.0, 0.6)


def test_keys_of_an_old_version_are_translated(tmp_path):
    cfg = load_yaml(write(tmp_path, "VERSION: 1\nMODEL: {WEIGHT: a.pth}"))
    assert (cfg.VERSION, cfg.MODEL.WEIGHTS) == (2, "a.pth")


def test_an_option_after_the_keys_is_told_from_a_key(tmp_path, sentence_of):
    config = write(tmp_path, "VERSION: 2")
    for late in (["SEED", "1", "--num-gpus", "2"], ["SEED", "1", "--resume"]):
        assert f"write {late[2]} before the config's keys" in sentence_of(
            "--config-file", config, *late
        )


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("SOLVER.STEPS", "{7: 8}", "SOLVER.STEPS.7 is no key"),
        ("INPUT", "{(1, 2): 8}", r"INPUT.\(1, 2\) is no key"),
        ("DATASETS.TEST", "[0x" + "f" * 4000 + "]", "DATASETS.TEST has a number of thousands"),
    ],
)
def test_what_python_reads_in_a_text_is_checked_too(key, value, complaint):
    config = "configs/focal_retinanet_R_50_FPN_1x.yaml"
    with pytest.raises(UserError, match=complaint):
        load_yaml(config, [key, value])
