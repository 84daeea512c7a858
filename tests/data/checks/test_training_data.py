"""Training starts with a short check of what its datasets say."""

import json
import logging
import re
import shlex
import subprocess
import sys

import pytest
from detectron2.data import DatasetCatalog
from detectron2.utils.file_io import PathManager
from helpers.small_datasets import changed, coco_content, with_text_ids, write_dataset, write_json
from helpers.tiny_jobs import ROOT, options, run_here, write_jobs, write_random_weights

from focal_retina.data.checks.registered import table_of_dataset
from focal_retina.data.checks.training_data import check_training_data
from focal_retina.data.register import register_datasets
from focal_retina.errors import SharedError
from focal_retina.tools import check_dataset

ARGS = "a.yaml", ["SOLVER.STEPS", "(1, 2)"]
COMMAND = "python -m focal_retina.tools.check_dataset --config-file a.yaml SOLVER.STEPS '(1, 2)'"


@pytest.fixture
def check(tmp_path, caplog):
    """Return a function that checks contents for training and test; it returns the log's lines."""

    def run(train, test=None, resize=None):
        for name, content in (("train", train), ("val", test or coco_content())):
            register_datasets([[name, *write_dataset(tmp_path / name, content)]])
        with caplog.at_level(logging.INFO, "focal_retina"):
            check_training_data(["train"], ["val"], True, *ARGS, resize)
        return [record.getMessage() for record in caplog.records]

    return run


@pytest.mark.parametrize(
    "is_crowd, used", [(0, "6 of 6 annotations"), (1, "5 of 6 annotations (not 1 crowds)")]
)
def test_what_training_uses_of_a_dataset_without_mistakes_takes_two_lines(check, is_crowd, used):
    first, time = check(changed("annotations", 3, iscrowd=is_crowd))
    assert first == f"train: training uses {used} and 3 of 3 images"
    assert re.fullmatch(r"checked the datasets in \d+\.\d seconds", time)


@pytest.mark.parametrize("objects", [{}, {"annotations": []}])
def test_a_training_set_without_objects_is_counted(check, objects):
    kinds = ("images", "categories")
    used, *_ = check({kind: coco_content()[kind] for kind in kinds} | objects)
    assert "train: training uses 0 of 0 annotations and 0 of 3 images (not 3 without" in used


def test_an_error_stops_with_the_place_and_the_command_that_lists_all(check, tmp_path):
    content = changed("annotations", 3, bbox=[float("nan"), 1, 2, 3])
    with pytest.raises(SharedError) as raised:
        check(content)
    sentence = str(raised.value)
    assert f"train ({tmp_path}/train/a.json): annotations[3].bbox (annotation 13, image 1.png) is "
    assert "[nan, 1.0, 2.0, 3.0]: a box is NaN or infinite" in sentence
    assert sentence.endswith(COMMAND)


def test_an_error_in_the_test_set_stops_before_training_too(check):
    content = changed("images", 1, id=1)
    with pytest.raises(SharedError, match=r"val \(.*/a.json\): images\[1\].id .image 1.png. is 1"):
        check(coco_content(), content)


def test_what_only_other_evaluations_mind_is_a_warning_about_a_test_set(check, caplog):
    content = with_text_ids("images", "image_id")
    check(content)
    assert "an id is no integer" not in caplog.text
    check(coco_content(), content)
    assert "an id is no integer; training and evaluation do not mind" in caplog.text


def test_warnings_are_a_handful_of_lines(check, caplog):
    content = coco_content()
    content["annotations"][0]["bbox"] = [1, 1, 0, 2]
    content["annotations"][1]["bbox"] = [70, 1, 5, 5]
    content["annotations"][2]["bbox"] = [60, 1, 15, 5]
    content["annotations"].append({**content["annotations"][3], "id": 40})
    content["categories"] += [{"id": 20, "name": "cat"}]
    content["images"] += [{**content["images"][0], "id": 30}]
    check(content, {**coco_content(), "categories": content["categories"]})
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 6
    assert "annotations[0].bbox (annotation 10, image 0.png) is [1.0, 1.0, 0.0, 2.0]" in caplog.text
    assert warnings[-1].startswith("5 more kinds of warnings are listed by: ")
    assert warnings[-1].endswith(COMMAND)


@pytest.mark.parametrize("filter_empty", [True, False])
def test_a_training_set_whose_annotations_are_all_dropped_stops_the_run(tmp_path, filter_empty):
    content = coco_content()
    for annotation in content["annotations"]:
        annotation["image_id"] += 100
    register_datasets([["train", *write_dataset(tmp_path, content)]])
    with pytest.raises(SharedError, match="none of 6 is left: 6 of unknown images"):
        check_training_data(["train"], [], filter_empty, *ARGS)


@pytest.mark.parametrize("split", ["train", "val"])
def test_objects_below_a_pixel_matter_in_training_only(check, caplog, split):
    content = changed("annotations", 3, bbox=[7, 5, 1, 30], area=30)
    sets = (content, coco_content()) if split == "train" else (coco_content(), content)
    check(*sets, resize=(24, 40))
    assert ("less than a pixel" in caplog.text) == (split == "train")


def test_a_dataset_of_pytorch_is_not_checked(caplog):
    DatasetCatalog.register("mine", lambda: iter(()))
    with caplog.at_level(logging.INFO, "focal_retina"):
        check_training_data(["mine"], [], True, *ARGS)
    assert "dataset mine is no list of records, and is not checked" in caplog.text


def test_a_dataset_in_training_and_test_leaks(check, tmp_path, caplog):
    check(coco_content())
    check_training_data(["train"], ["train"], True, *ARGS)
    assert f"train ({tmp_path}/train/a.json): {tmp_path}/train/images/0.png: " in caplog.text
    assert "(and 2 more): a picture of the training set is in the test set" in caplog.text


def test_a_declared_json_is_read_once_for_registration_and_check(check, tmp_path, monkeypatch):
    read, opened = [], PathManager.open
    monkeypatch.setattr(PathManager, "open", lambda *args: read.append(args[0]) or opened(*args))
    check(coco_content())
    assert read == [f"{tmp_path}/train/a.json", f"{tmp_path}/val/a.json"]


@pytest.mark.parametrize("use", [DatasetCatalog.get, table_of_dataset])
def test_who_uses_a_dataset_first_frees_what_the_registration_has_read(use, tmp_path):
    register_datasets([["mine", *write_dataset(tmp_path)]])
    use("mine")
    write_json(tmp_path / "a.json", changed("annotations", 3, iscrowd=1))
    assert table_of_dataset("mine").annotations.is_crowd.sum() == 1


def broken_job(folder, split, config="tiny.yaml"):
    """Write jobs, in which the first box of a split is negative; return a job's arguments."""
    jobs = write_jobs(folder)
    path = next(jobs.glob(f"{split}-*/instances.json"))
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"][2] = -1
    write_json(path, content)
    output = [f"train.output_dir={folder}"] if config == "tiny.py" else ["OUTPUT_DIR", str(folder)]
    return ["--config-file", str(jobs / config), *output]


@pytest.mark.parametrize("config", ["tiny.yaml", "tiny.py"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_run_ends_before_it_starts_and_names_a_command_that_lists_all(
    tmp_path, sentence_of, capsys, config, split
):
    sentence = sentence_of(*broken_job(tmp_path, split, config))
    assert "annotations[0].bbox (annotation 1, image 000001.png)" in sentence
    command = shlex.split(sentence.split("listed by: ")[1])
    assert check_dataset.main(command[3:]) == 1
    assert "annotations[0].bbox" in capsys.readouterr().out


@pytest.mark.parametrize("config", ["tiny.yaml", "tiny.py"])
def test_evaluation_alone_is_not_checked(tmp_path, config):
    arguments = broken_job(tmp_path, "val", config)
    weights = write_random_weights(tmp_path / config)
    run_here("--eval-only", *arguments, *options(config.rpartition(".")[2], weights=weights))


@pytest.mark.slow
@pytest.mark.distributed
def test_all_processes_hear_of_an_error_that_the_first_one_tells(tmp_path):
    flags = ["--num-gpus", "2", "--dist-url", "auto"]
    command = [sys.executable, "train_net.py", *flags, *broken_job(tmp_path, "train")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 2
    assert done.stderr.count("annotations[0].bbox") == 1
    assert "Traceback" not in done.stderr
