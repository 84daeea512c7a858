"""train_net.py as users run it: processes, resuming, evaluation, warnings and errors."""

import os
import re
from pathlib import Path

import pytest
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from helpers.processes import run_python
from helpers.tiny_jobs import ROOT, detections, metrics, options, run_here

pytestmark = [pytest.mark.slow, pytest.mark.distributed]

TABLE = yaml.safe_load(Path(__file__).with_name("mistakes.yaml").read_text())
MISTAKES = [(config, *line) for config, lines in TABLE.items() for line in lines.items()]


def iterations(folder):
    """Return the iterations of which the losses were written: the last one of each run."""
    return [line["iteration"] for line in metrics(folder) if "total_loss" in line]


def scores(folder):
    return sorted(detection["score"] for detection in detections(folder))


@pytest.fixture(scope="module")
def yaml_options(jobs):
    """The user's own datasets from the command line, and three likely mistakes."""
    folders = [("mine", next(jobs.glob("train-*[0-9]"))), ("other", next(jobs.glob("val-*[0-9]")))]
    register = [[name, f"{x}/instances.json", f"{x}/images"] for name, x in folders]
    data = {"register": register, "train_datasets": ("mine",), "test_datasets": ("other",)}
    wanted = options("yaml", output_dir=jobs / "yaml", learning_rate=0.01, **data)
    wanted += ["MODEL.RETINANET.SCORE_THRESH_TEST", 0.0]
    wanted += ["MODEL.RESNETS.NORM", "FrozenBN", "MODEL.RPN.NMS_THRESH", 0.6]
    return ["--config-file", jobs / "tiny.yaml", *wanted]


@pytest.fixture(scope="module")
def two_processes(yaml_options):
    """The output of ``--num-gpus 2`` from a YAML config."""
    done = run_python("train_net.py", "--num-gpus", 2, "--dist-url", "auto", *yaml_options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def torchrun(jobs):
    """The output of torchrun with two processes from a LazyConfig."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2]
    job = ["--config-file", jobs / "tiny.py", f"train.output_dir={jobs / 'lazy'}"]
    done = run_python(*launcher, "train_net.py", *job)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_without_a_gpu_train_and_evaluate(two_processes, jobs):
    assert "Rank of current process: 0. World size: 2" in two_processes
    assert iterations(jobs / "yaml") == [1]
    assert (jobs / "yaml/model_final.pth").exists()
    assert two_processes.count("copypaste: Task: bbox") == 1


@pytest.mark.parametrize(
    "line",
    [
        "MODEL.RETINANET.NUM_CLASSES becomes ",
        "MODEL.DEVICE becomes cpu",
        "set SOLVER.BASE_LR to 0.00125",
        "set MODEL.WEIGHTS, or train from scratch with MODEL.RESNETS.NORM BN (or GN)",
        "a RetinaNet ignores MODEL.RPN.NMS_THRESH: set MODEL.RETINANET.NMS_THRESH_TEST instead",
    ],
)
def test_what_is_decided_and_likely_mistakes_are_logged_once(two_processes, line):
    assert two_processes.count(line) == 1


def test_evaluation_alone_finds_what_training_found(two_processes, yaml_options, jobs):
    found = scores(jobs / "yaml")
    weights = ["MODEL.WEIGHTS", jobs / "yaml/model_final.pth", "OUTPUT_DIR", jobs / "evaluated"]
    run_here("--eval-only", *yaml_options, *weights)
    assert len(found) > 0
    assert scores(jobs / "evaluated") == pytest.approx(found, abs=1e-4)
    assert "set SOLVER.BASE_LR" not in (jobs / "evaluated/log.txt").read_text()


def test_resuming_goes_on_from_the_last_iteration(two_processes, yaml_options, jobs):
    run_here("--resume", *yaml_options, "SOLVER.MAX_ITER", 3)
    assert iterations(jobs / "yaml") == [1, 2]
    log = (jobs / "yaml/log.txt").read_text()
    assert "from iteration 2" in log
    assert log.count("set MODEL.WEIGHTS, or train from scratch") == 1  # by the first run


def test_weights_to_start_from_make_frozen_normalisation_fine(two_processes, yaml_options, jobs):
    weights = ["MODEL.WEIGHTS", jobs / "yaml/model_final.pth", "OUTPUT_DIR", jobs / "tuned"]
    run_here(*yaml_options, *weights, "SOLVER.MAX_ITER", 1)
    assert iterations(jobs / "tuned") == [0]
    assert "train from scratch" not in (jobs / "tuned/log.txt").read_text()


def test_torchrun_trains_and_evaluates_a_lazy_config(torchrun, jobs):
    assert "Rank of current process: 0. World size: 2" in torchrun
    assert iterations(jobs / "lazy") == [1]
    assert torchrun.count("copypaste: Task: bbox") == 1
    assert torchrun.count("model.num_classes becomes ") == 1
    assert "WARNING" not in torchrun.split("Starting training")[0]


def test_a_lazy_config_resumes_in_bfloat16_with_the_same_warnings(torchrun, jobs):
    amp = {"amp": True, "amp_dtype": "bfloat16"}
    wanted = options("py", output_dir=jobs / "lazy", max_iter=3, learning_rate=0.1, **amp)
    # With 64 pixels P6 is one pixel wide, and there PyTorch 2.14 leaves parts of the gradient of
    # P7's weights unwritten on the CPU in bfloat16.
    size = "dataloader.train.mapper.augmentations.0.short_edge_length=[96]"
    run_here("--resume", "--config-file", jobs / "tiny.py", *wanted, size)
    assert iterations(jobs / "lazy") == [1, 2]
    log = (jobs / "lazy/log.txt").read_text()
    assert "from iteration 2" in log
    assert log.count("set optimizer.lr to 0.00125") == 1


@pytest.mark.parametrize("config, arguments, complaint", MISTAKES)
def test_a_mistake_ends_in_a_sentence(jobs, tmp_path, sentence_of, config, arguments, complaint):
    MetadataCatalog.get("stuff").evaluator_type = "sem_seg"
    DatasetCatalog.register("stuff", list)
    folder = options(config.removeprefix("tiny."), output_dir=tmp_path)
    assert complaint in sentence_of("--config-file", jobs / config, *arguments.split(), *folder)


NO_CONFIGS = {
    "model = {": "a.py has syntax error! .*line 1",
    "from .b import model": "b.py does not exist",
    "model = dict()": "a.py defines no dataloader",
}


@pytest.mark.parametrize("text", NO_CONFIGS)
def test_a_file_that_is_no_lazy_config_ends_in_a_sentence(tmp_path, sentence_of, text):
    (tmp_path / "a.py").write_text(text)
    assert re.search(NO_CONFIGS[text], sentence_of("--config-file", tmp_path / "a.py"))


def test_a_missing_config_ends_in_a_sentence(sentence_of):
    assert sentence_of().endswith("--config-file is missing")
    for name in ("none.yaml", "none.py"):
        assert sentence_of("--config-file", name).endswith(f"config file {name} does not exist")


def test_a_part_that_cannot_be_built_in_one_of_two_processes_ends_them_without_traceback(jobs):
    mistake = ["MODEL.FOCAL_RETINA.NORMALIZER", "imgae", "OUTPUT_DIR", jobs / "failed"]
    flags = ["--num-gpus", 2, "--dist-url", "auto", "--config-file", jobs / "tiny.yaml"]
    done = run_python("train_net.py", *flags, *mistake)
    assert done.returncode == 2
    assert "train_net.py: error: " in done.stderr and "imgae" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(
    not os.path.isfile(MetadataCatalog.get("coco_2017_val").json_file),
    reason="DETECTRON2_DATASETS holds no COCO",
)
def test_a_config_for_coco_runs_on_coco_unchanged(tmp_path):
    config = ["--config-file", ROOT / "configs/focal_retinanet_R_50_FPN_1x.yaml"]
    from_scratch = ["MODEL.WEIGHTS", "", "MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", 0]
    small = ["INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", 64]
    short = ["SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 2, "DATALOADER.NUM_WORKERS", 0]
    run_here(*config, *from_scratch, *small, *short, "OUTPUT_DIR", tmp_path)
    assert iterations(tmp_path) == [1]
    assert "copypaste: Task: bbox" in (tmp_path / "log.txt").read_text()
