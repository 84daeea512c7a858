"""One program for both kinds of config: a YAML config and its LazyConfig twin do the same."""

from contextlib import nullcontext

import pytest
import torch
from detectron2 import model_zoo
from helpers.tiny_jobs import ROOT, metrics, options, run_here

from focal_retina.engine import job
from focal_retina.errors import UserError
from focal_retina.settings.load import load_settings
from focal_retina.settings.run_settings import RunSettings

pytestmark = pytest.mark.slow

# The choices of the paper's profile, which tiny.py has, for tiny.yaml.
PAPER = """
MODEL:
  ANCHOR_GENERATOR: {OFFSET: 0.5}
  RETINANET: {SMOOTH_L1_LOSS_BETA: 0.11, SCORE_THRESH_TEST: 0.0}
  FOCAL_RETINA: {LOW_QUALITY_MATCHES: none, NORMALIZER: image}
SOLVER: {WARMUP_ITERS: 0, WEIGHT_DECAY_NORM: 0.0, WEIGHT_DECAY_BIAS: null}
INPUT: {MAX_SIZE_TRAIN: 1333, MAX_SIZE_TEST: 1333}
"""
# A two-stage model of Detectron2 in the place of tiny.py's.
TWO_STAGE = """
from detectron2.model_zoo import get_config
model = get_config("common/models/mask_rcnn_fpn.py").model
"""
# Where Detectron2's own LazyConfigs have other defaults than its YAML configs.
_LAZY_DEFAULTS = ("output_dir", "eval_period", "max_to_keep")
KINDS = pytest.mark.parametrize("kind", ["yaml", "py"])


@pytest.fixture(scope="module")
def jobs(jobs):
    (jobs / "paper.yaml").write_text(f"_BASE_: tiny.yaml{PAPER}")
    lazy = (jobs / "tiny.py").read_text()
    # Two steps teach no higher score.
    (jobs / "paper.py").write_text(lazy + "model.postprocessor.score_thresh = 0.0\n")
    two_stage = model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml")
    (jobs / "two_stage.yaml").write_text(f"_BASE_: [tiny.yaml, {two_stage}]")
    (jobs / "two_stage.py").write_text(lazy + TWO_STAGE)
    return jobs


@pytest.fixture(scope="module")
def trained(jobs):
    """The folders of two twins that were trained from the same seed."""
    for kind in ("yaml", "py"):
        wanted = options(kind, output_dir=jobs / kind, val_loss=True)
        run_here("--config-file", jobs / f"paper.{kind}", *wanted)
    return {kind: jobs / kind for kind in ("yaml", "py")}


def test_twins_train_the_same_weights_and_find_the_same_metrics(trained):
    finals = [torch.load(x / "model_final.pth", weights_only=True) for x in trained.values()]
    torch.testing.assert_close(*[x["model"] for x in finals], atol=0, rtol=0)
    timing = ("time", "data_time", "rank_data_time", "eta_seconds")
    found = [
        [{k: str(v) for k, v in line.items() if k not in timing} for line in metrics(folder)]
        for folder in trained.values()
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["R_50_FPN_1x", "R_101_FPN_1x", "R_101_FPN_jitter_1_5x"])
def test_shipped_twins_have_the_same_settings(name):
    path = str(ROOT / f"configs/focal_retinanet_{name}")
    found = [load_settings(f"{path}.{kind}") for kind in ("yaml", "py")]
    assert len(RunSettings.lazy_keys()) > 20
    for field in RunSettings.__dataclass_fields__.values():
        if field.metadata and field.name not in _LAZY_DEFAULTS:
            values = [getattr(settings, field.name) for settings in found]
            values = [list(v) if isinstance(v, tuple) else v for v in values]
            assert values[0] == values[1], field.name


@KINDS
def test_evaluation_alone_gives_the_losses_of_the_training_s_end(trained, kind, tmp_path):
    weights = trained[kind] / "model_final.pth"
    wanted = options(kind, weights=weights, val_loss=True, output_dir=tmp_path)
    config = str(trained[kind].parent / f"paper.{kind}")
    results = job.prepare(config, wanted, eval_only=True)()
    (last,) = [x for x in metrics(trained[kind]) if "val_total_loss" in x]
    assert results["val_total_loss"] == pytest.approx(last["val_total_loss"])


@KINDS
@pytest.mark.parametrize("flags", [[], ["--eval-only"]])
@pytest.mark.parametrize("expected, status", [(0.0, None), (50.0, 1)])
def test_results_other_than_expected_end_the_program(
    jobs, trained, kind, flags, expected, status, tmp_path
):
    weights, results = trained[kind] / "model_final.pth", [["bbox", "AP", expected, 1.0]]
    wanted = {"weights": weights, "expected_results": results, "output_dir": tmp_path}
    ends = pytest.raises(SystemExit, match=f"^{status}$") if status else nullcontext()
    with ends:
        config = ["--config-file", jobs / f"paper.{kind}"]
        run_here(*flags, *config, *options(kind, max_iter=1, **wanted))


def test_a_key_of_a_lazy_config_that_nothing_reads_is_warned_of(jobs, tmp_path, capsys):
    config = jobs / "ignored.py"
    config.write_text((jobs / "tiny.py").read_text() + "train.max_itr = 3\n")
    run_here("--config-file", config, *options("py", output_dir=tmp_path, max_iter=1))
    assert capsys.readouterr().out.count("train.max_iter?") == 1


def test_a_lazy_config_may_state_the_images_of_one_process(jobs, tmp_path):
    sizes = {"total_batch_size": "null", "single_gpu_batch_size": 2}
    sizes = [f"dataloader.train.{name}={value}" for name, value in sizes.items()]
    run_here("--config-file", jobs / "tiny.py", *options("py", output_dir=tmp_path), *sizes)
    assert metrics(tmp_path)


@KINDS
def test_every_setting_is_checked_before_anything_is_built(jobs, kind, tmp_path, monkeypatch):
    def build(self):
        raise AssertionError("built")

    monkeypatch.setattr("focal_retina.settings.yaml_parts.YamlParts.model", build)
    monkeypatch.setattr("focal_retina.settings.lazy_parts.LazyParts.model", build)
    wrong = options(kind, best_metric="val_total_loss", output_dir=tmp_path)
    with pytest.raises(UserError, match="needs .*(VAL_LOSS|val_loss) True"):
        job.prepare(str(jobs / f"tiny.{kind}"), wrong)


@KINDS
def test_two_stage_models_take_the_number_of_classes_of_the_data(jobs, kind):
    settings = load_settings(str(jobs / f"two_stage.{kind}"), trains=False)
    assert settings.num_classes == 80
    settings = settings.completed(["tiny_train"])
    assert settings.num_classes == 6
    assert settings.parts.model().roi_heads.box_predictor.num_classes == 6
