"""The rows are the paper's, and each is a config and a model."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from experiments.paper.jobs import make_job
from experiments.paper.preset import load_preset
from experiments.paper.rows import load_rows, select_rows
from focal_retina.errors import UserError
from focal_retina.settings.flat_keys import dotted_keys
from focal_retina.settings.yaml_config import load_yaml

ROWS = load_rows()

TEXT = Path(__file__).with_name("published_rows.txt").read_text()
DEFAULTS, *LINES = (line for line in TEXT.splitlines() if not line.startswith("#"))
rows = pytest.mark.parametrize("number", range(47))
RETINANET, NODE, RESNETS = "MODEL.RETINANET", "MODEL.FOCAL_RETINA", "MODEL.RESNETS"
# What a row may change, by the transcription's names.
KEYS = {
    "gamma": f"{RETINANET}.FOCAL_LOSS_GAMMA",
    "alpha": f"{RETINANET}.FOCAL_LOSS_ALPHA",
    "scales": f"{NODE}.SCALES_PER_OCTAVE",
    "depth": f"{RESNETS}.DEPTH",
    "size": "INPUT.MIN_SIZE_TEST",
    "select": f"{NODE}.EXAMPLE_SELECTION",
    "batch": f"{NODE}.OHEM_BATCH_SIZE",
    "nms": f"{NODE}.OHEM_NMS_THRESH",
    "loss": f"{NODE}.CLS_LOSS",
    "beta": f"{NODE}.FOCAL_STAR_BETA",
    "iterations": "SOLVER.MAX_ITER",
    "groups": f"{RESNETS}.NUM_GROUPS",
    "width": f"{RESNETS}.WIDTH_PER_GROUP",
}


def parsed(words):
    pairs = (word.split("=") for word in words.split())
    texts = ("select", "loss")
    return {name: value if name in texts else float(value) for name, value in pairs}


def expected_settings(number):
    words = [line.split("|")[0].split(maxsplit=1)[1] for line in (DEFAULTS, LINES[number])]
    return parsed(words[0]) | parsed(words[1])


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    folder, preset = tmp_path_factory.mktemp("rows"), load_preset("full")
    jobs = [make_job(row, 1, preset, folder) for row in ROWS]
    return [load_yaml(str(job.config_file)) for job in jobs]


def test_there_are_47_rows_with_different_names():
    assert len(ROWS) == len({row.id for row in ROWS}) == 47
    counts = {"1a": 7, "1b": 7, "1c": 7, "1d": 10, "1e": 10, "2": 2, "3": 4}
    assert Counter(row.table for row in ROWS) == counts


@rows
def test_the_published_numbers_are_the_papers(number):
    row, line = ROWS[number], LINES[number]
    assert row.table == line.split()[0]
    assert row.source == f"Table {row.table}"
    assert list(row.published.values()) == [float(x) for x in line.split("|")[1].split()]
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl", "ms"]
    assert list(row.published) == names[: len(row.published)]


@rows
def test_the_full_config_of_each_row_has_its_settings(number, configs):
    values = dotted_keys(configs[number])
    settings = {name: values[key] for name, key in KEYS.items()}
    settings["aspects"] = len(configs[number].MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS[0])
    assert settings == expected_settings(number)


def test_only_tables_1e_and_2_are_of_test_dev(configs):
    assert {cfg.DATASETS.TRAIN for cfg in configs} == {("coco_2017_train",)}
    tested = {row.table: cfg.DATASETS.TEST for row, cfg in zip(ROWS, configs, strict=True)}
    on_test_dev = {t for t, names in tested.items() if names == ("coco_2017_test-dev",)}
    assert on_test_dev == {"1e", "2"}
    assert {tested[t] for t in tested.keys() - on_test_dev} == {("coco_2017_val",)}


def test_images_keep_the_longer_side_of_1333_at_800(configs):
    for cfg in configs:
        scale = 1333 / 800
        assert cfg.INPUT.MAX_SIZE_TEST == round(cfg.INPUT.MIN_SIZE_TEST * scale)
        assert cfg.INPUT.MAX_SIZE_TRAIN == round(max(cfg.INPUT.MIN_SIZE_TRAIN) * scale)
    assert configs[41].INPUT.MIN_SIZE_TRAIN == (640, 672, 704, 736, 768, 800)
    assert configs[41].SOLVER.STEPS == (90000, 120000)


@rows
def test_the_model_of_each_row_can_be_built(number, configs):
    cfg = configs[number].clone()
    cfg.MODEL.DEVICE = "meta"  # no memory, no random numbers
    with torch.device("meta"):
        model = build_model(cfg)
    expected = expected_settings(number)
    assert model.head.cls_score.out_channels == expected["scales"] * expected["aspects"] * 80


def test_rows_are_selected_by_table_and_by_name_each_once():
    ids = [row.id for row in select_rows(["3", "1b-gamma-2", "3-CE"])]
    assert ids == ["1b-gamma-2", "3-CE", "3-FL-2", "3-FLstar-2-1", "3-FLstar-4-0"]
    with pytest.raises(UserError, match="no table or row '1f'"):
        select_rows(["1f"])
