"""The rows are the paper's, and each is a config and a model."""

from collections import Counter

import pytest
import torch
from detectron2.modeling import build_model

from experiments.paper.jobs import make_job
from experiments.paper.preset import load_preset
from experiments.paper.rows import load_rows, select_rows
from focal_retina.errors import UserError
from focal_retina.settings.yaml_config import load_yaml

ROWS = load_rows()

# A transcription of its own: table, then what tells the row from others, then AP AP50 AP75 ...
TRANSCRIPTION = """
1a gamma=0 alpha=.10 | 0.0 0.0 0.0
1a gamma=0 alpha=.25 | 10.8 16.0 11.7
1a gamma=0 alpha=.50 | 30.2 46.7 32.8
1a gamma=0 alpha=.75 | 31.1 49.4 33.0
1a gamma=0 alpha=.90 | 30.8 49.7 32.3
1a gamma=0 alpha=.99 | 28.7 47.4 29.9
1a gamma=0 alpha=.999 | 25.1 41.7 26.1
1b gamma=0 alpha=.75 | 31.1 49.4 33.0
1b gamma=0.1 alpha=.75 | 31.4 49.9 33.1
1b gamma=0.2 alpha=.75 | 31.9 50.7 33.4
1b gamma=0.5 alpha=.50 | 32.9 51.7 35.2
1b gamma=1.0 alpha=.25 | 33.7 52.0 36.2
1b gamma=2.0 alpha=.25 | 34.0 52.5 36.5
1b gamma=5.0 alpha=.25 | 32.2 49.6 34.8
1c scales=1 aspects=1 | 30.3 49.0 31.8
1c scales=2 aspects=1 | 31.9 50.0 34.0
1c scales=3 aspects=1 | 31.8 49.4 33.7
1c scales=1 aspects=3 | 32.4 52.3 33.9
1c scales=2 aspects=3 | 34.2 53.1 36.5
1c scales=3 aspects=3 | 34.0 52.5 36.5
1c scales=4 aspects=3 | 33.8 52.1 36.2
1d gamma=0 alpha=-1 depth=101 select=ohem batch=128 nms=.7 | 31.1 47.2 33.2
1d gamma=0 alpha=-1 depth=101 select=ohem batch=256 nms=.7 | 31.8 48.8 33.9
1d gamma=0 alpha=-1 depth=101 select=ohem batch=512 nms=.7 | 30.6 47.0 32.6
1d gamma=0 alpha=-1 depth=101 select=ohem batch=128 nms=.5 | 32.8 50.3 35.1
1d gamma=0 alpha=-1 depth=101 select=ohem batch=256 nms=.5 | 31.0 47.4 33.0
1d gamma=0 alpha=-1 depth=101 select=ohem batch=512 nms=.5 | 27.6 42.0 29.2
1d gamma=0 alpha=-1 depth=101 select=ohem_1_3 batch=128 nms=.5 | 31.1 47.2 33.2
1d gamma=0 alpha=-1 depth=101 select=ohem_1_3 batch=256 nms=.5 | 28.3 42.4 30.3
1d gamma=0 alpha=-1 depth=101 select=ohem_1_3 batch=512 nms=.5 | 24.0 35.5 25.8
1d depth=101 | 36.0 54.9 38.7
1e size=400 | 30.5 47.8 32.7 11.2 33.8 46.1 64
1e size=500 | 32.5 50.9 34.8 13.9 35.8 46.7 72
1e size=600 | 34.3 53.2 36.9 16.2 37.4 47.4 98
1e size=700 | 35.1 54.2 37.7 18.0 39.3 46.4 121
1e size=800 | 35.7 55.0 38.5 18.9 38.9 46.3 153
1e depth=101 size=400 | 31.9 49.5 34.1 11.6 35.8 48.5 81
1e depth=101 size=500 | 34.4 53.1 36.8 14.7 38.5 49.1 90
1e depth=101 size=600 | 36.0 55.2 38.7 17.4 39.6 49.7 122
1e depth=101 size=700 | 37.1 56.6 39.8 19.1 40.6 49.4 154
1e depth=101 size=800 | 37.8 57.5 40.8 20.2 41.1 49.2 198
2 depth=101 size=800 iterations=135000 | 39.1 59.1 42.3 21.8 42.7 50.2
2 depth=101 size=800 iterations=135000 groups=32 width=8 | 40.8 61.1 44.1 24.1 44.2 51.2
3 gamma=0 alpha=.75 | 31.1 49.4 33.0
3 gamma=2 | 34.0 52.5 36.5
3 loss=focal_star gamma=2 beta=1 | 33.8 52.7 36.3
3 loss=focal_star gamma=4 beta=0 | 33.9 51.8 36.4
"""
LINES = TRANSCRIPTION.strip().splitlines()
DEFAULTS = """
gamma=2 alpha=.25 scales=3 aspects=3 depth=50 size=600 select=all batch=128 nms=.5
loss=focal beta=1 iterations=90000 groups=1 width=64
"""


def settings_of(cfg):
    """Return what a row may change, by the transcription's names."""
    node, resnets = cfg.MODEL.FOCAL_RETINA, cfg.MODEL.RESNETS
    return {
        "gamma": cfg.MODEL.RETINANET.FOCAL_LOSS_GAMMA,
        "alpha": cfg.MODEL.RETINANET.FOCAL_LOSS_ALPHA,
        "scales": node.SCALES_PER_OCTAVE,
        "aspects": len(cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS[0]),
        "depth": resnets.DEPTH,
        "size": cfg.INPUT.MIN_SIZE_TEST,
        "select": node.EXAMPLE_SELECTION,
        "batch": node.OHEM_BATCH_SIZE,
        "nms": node.OHEM_NMS_THRESH,
        "loss": node.CLS_LOSS,
        "beta": node.FOCAL_STAR_BETA,
        "iterations": cfg.SOLVER.MAX_ITER,
        "groups": resnets.NUM_GROUPS,
        "width": resnets.WIDTH_PER_GROUP,
    }


def parsed(words):
    pairs = (word.split("=") for word in words.split())
    texts = ("select", "loss")
    return {name: value if name in texts else float(value) for name, value in pairs}


def expected_settings(line):
    return parsed(DEFAULTS) | parsed(line.split("|")[0].split(maxsplit=1)[1])


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    folder, preset = tmp_path_factory.mktemp("rows"), load_preset("full")
    jobs = [make_job(row, 1, preset, folder) for row in ROWS]
    return [load_yaml(str(job.config_file)) for job in jobs]


def test_there_are_47_rows_with_different_names():
    assert len(ROWS) == len({row.id for row in ROWS}) == 47
    counts = {"1a": 7, "1b": 7, "1c": 7, "1d": 10, "1e": 10, "2": 2, "3": 4}
    assert Counter(row.table for row in ROWS) == counts


@pytest.mark.parametrize("number", range(47))
def test_the_published_numbers_are_the_papers(number):
    row, line = ROWS[number], LINES[number]
    assert row.table == line.split()[0]
    assert row.source == f"Table {row.table}"
    assert list(row.published.values()) == [float(x) for x in line.split("|")[1].split()]
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl", "ms"]
    assert list(row.published) == names[: len(row.published)]


@pytest.mark.parametrize("number", range(47))
def test_the_full_config_of_each_row_has_its_settings(number, configs):
    assert settings_of(configs[number]) == expected_settings(LINES[number])


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


@pytest.mark.parametrize("number", range(47))
def test_the_model_of_each_row_can_be_built(number, configs):
    cfg = configs[number].clone()
    cfg.MODEL.DEVICE = "meta"  # no memory, no random numbers
    with torch.device("meta"):
        model = build_model(cfg)
    expected = expected_settings(LINES[number])
    assert model.head.cls_score.out_channels == expected["scales"] * expected["aspects"] * 80


def test_rows_are_selected_by_table_and_by_name_each_once():
    ids = [row.id for row in select_rows(["3", "1b-gamma-2", "3-CE"])]
    assert ids == ["1b-gamma-2", "3-CE", "3-FL-2", "3-FLstar-2-1", "3-FLstar-4-0"]
    with pytest.raises(UserError, match="no table or row '1f'"):
        select_rows(["1f"])
