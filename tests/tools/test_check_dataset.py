"""The check as a command: on json files, on configs, on real images."""

import csv
import json
import os
import shutil

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from helpers.mounts import files_limited_to
from helpers.small_datasets import changed, coco_content, write_dataset, write_json
from helpers.tiny_jobs import write_jobs

from focal_retina.tools.check_dataset import main

DATASETS = os.environ.get("DETECTRON2_DATASETS", "datasets")


@pytest.fixture
def dataset(tmp_path):
    """A json whose second picture is missing and whose fourth box is NaN, and its folder."""
    files = write_dataset(tmp_path, changed("annotations", 3, bbox=[float("nan"), 1, 2, 3]))
    os.remove(tmp_path / "images/1.png")
    return files


def run(*arguments):
    return main([str(x) for x in arguments])


def test_errors_give_status_1_with_what_training_does(dataset, capsys):
    json_file, folder = dataset
    assert run("--json", json_file, "--images", folder) == 1
    said = capsys.readouterr().out
    assert f"{json_file}\n  training would use 5 of 6 annotations" in said
    assert "error         1  box-not-finite: a box is NaN or infinite\n" in said
    assert "annotations[3].bbox (annotation 13, image 1.png) is [nan, 1.0, 2.0, 3.0]" in said
    assert f"{folder}/1.png\n" in said
    assert "2 kinds of errors, 0 of warnings" in said


@pytest.mark.parametrize("flags", [[], ["--json-only"]])
def test_pictures_can_be_left_alone(dataset, capsys, flags):
    json_file, folder = dataset
    assert run("--json", json_file, *(["--images", folder, *flags] if flags else [])) == 1
    assert "1 kinds of errors" in capsys.readouterr().out


def test_warnings_alone_give_status_0(tmp_path, capsys):
    content = changed("annotations", 3, iscrowd=1)
    assert run("--json", write_json(tmp_path / "a.json", content)) == 0
    assert "0 kinds of errors, 1 of warnings" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"images": 3}', "[" * 100_000])
def test_a_file_that_is_no_coco_json_gives_status_1(tmp_path, capsys, text):
    (tmp_path / "a.json").write_text(text)
    assert run("--json", tmp_path / "a.json") == 1
    assert "malformed" in capsys.readouterr().out


def test_everything_goes_to_a_file(dataset, tmp_path, capsys):
    content = coco_content()
    for annotation in content["annotations"][:5]:
        annotation["bbox"][2] = 0
    json_file = write_json(dataset[0], content)
    for name in ("all.json", "all.csv"):
        run("--json", json_file, "--all", tmp_path / name, "--examples", 1)
    assert capsys.readouterr().out.count("annotations[1].bbox") == 0
    rows = json.loads((tmp_path / "all.json").read_text())
    with open(tmp_path / "all.csv") as file:
        table = list(csv.DictReader(file))
    assert [row["path"] for row in rows][:5] == [f"annotations[{i}].bbox" for i in range(5)]
    assert [row["annotation_id"] for row in table] == [str(row["annotation_id"]) for row in rows]
    assert rows[0]["value"] == "[4.0, 5.0, 0.0, 10.0]"
    assert (rows[0]["severity"], rows[0]["finding"]) == ("warning", "box-empty")


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "name a --config-file, or the json files with --json"),
        (["--json", "none.json"], "the COCO json none.json does not exist"),
        (["--json", "a", "--images", "b", "--images", "c"], "--images names a folder for each"),
        (["--json", "a", "SOLVER.MAX_ITER"], "SOLVER.MAX_ITER is for a config"),
        (["--config-file", "a.yaml", "--json", "b.json"], "leave out --json and --images"),
        (["--config-file", "none.yaml"], "config file none.yaml does not exist"),
        (["--config-file", "none.py"], "config file none.py does not exist"),
        (["--config-file", "{jobs}/tiny.yaml", "DATASETS.TEST", "('x',)"], "x is not registered"),
        (["--json", "none.json", "--all", "a.txt"], "must end in .json or .csv"),
        (["--json", "{jobs}/tiny.yaml", "--all", "{jobs}/none/a.csv"], "there is no folder"),
        (["--json", "{jobs}/tiny.yaml", "--all", "{jobs}/folder.csv"], "Is a directory"),
        (
            ["--config-file", "{jobs}/tiny.yaml", "DATASETS.REGISTER", "[['tiny_train', 'x']]"],
            "a dataset is declared as [name, COCO json, image folder]",
        ),
    ],
)
def test_a_mistake_on_the_command_line_gives_status_2(tmp_path, capsys, arguments, complaint):
    jobs = write_jobs(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    assert run(*(argument.format(jobs=jobs) for argument in arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("check_dataset: error: ") and complaint in line


@pytest.mark.parametrize("flag, value", [("--threads", "0"), ("--examples", "-1")])
def test_numbers_have_their_limits(capsys, flag, value):
    with pytest.raises(SystemExit):
        run("--json", "a.json", flag, value)
    assert f"argument {flag}: '{value}' is not a whole number" in capsys.readouterr().err


@pytest.mark.parametrize("config", ["tiny.yaml", "tiny.py"])
def test_a_config_names_the_datasets_to_check_and_to_compare(tmp_path, capsys, config):
    jobs = write_jobs(tmp_path)
    train, val = (next(jobs.glob(f"{split}-*[0-9]")) for split in ("train", "val"))
    shutil.copy(train / "images/000003.png", val / "images/000004.png")
    assert run("--config-file", jobs / config) == 0
    said = capsys.readouterr().out
    assert f"tiny_train ({train}/instances.json)\n" in said
    assert f"tiny_val ({val}/instances.json)\n" in said
    assert f"{val}/images/000004.png: {train}/images/000003.png of tiny_train" in said


def test_errors_that_would_stop_the_registration_are_listed_too(tmp_path, capsys):
    jobs = write_jobs(tmp_path)
    path = next(jobs.glob("train-*/instances.json"))
    content = json.loads(path.read_text())
    del content["annotations"][0]["bbox"], content["annotations"][2]["category_id"]
    path.write_text(json.dumps(content))
    assert run("--config-file", jobs / "tiny.yaml") == 1
    said = capsys.readouterr().out
    assert "annotations[0].bbox" in said and "annotations[2].category_id" in said


def test_every_fault_of_a_voc_folder_is_listed(tmp_path, capsys):
    jobs, voc = write_jobs(tmp_path), tmp_path / "voc"
    (voc / "ImageSets/Main").mkdir(parents=True)
    (voc / "ImageSets/Main/all.txt").write_text("a\nb\nc\n")
    (voc / "Annotations").mkdir()
    for name, text in (("a", "<annotation>"), ("b", "<annotation/>")):
        (voc / f"Annotations/{name}.xml").write_text(text)
    declared = ["DATASETS.REGISTER", f"[['mine', 'voc', '{voc}', 'all']]"]
    opts = [*declared, "DATASETS.TRAIN", "('mine',)", "DATASETS.TEST", "()"]
    assert run("--config-file", jobs / "tiny.yaml", *opts) == 1
    said = capsys.readouterr().out
    assert "error         3  malformed" in said
    assert "a.xml: cannot be read" in said and "line 3, is 'c'" in said
    assert "the VOC image " in said


@pytest.mark.parametrize(
    "sizes, is_tiny", [("(64,)", True), ("(480, 64)", True), ("(480,)", False)]
)
def test_objects_below_a_pixel_at_the_smallest_size_of_a_config_are_named(
    tmp_path, capsys, sizes, is_tiny
):
    jobs = write_jobs(tmp_path)
    path = next(jobs.glob("train-*/instances.json"))
    content = json.loads(path.read_text())
    box = content["annotations"][0]["bbox"]
    content["annotations"][0]["bbox"] = [*box[:2], 0.7, 9]
    path.write_text(json.dumps(content))
    run("--config-file", jobs / "tiny.yaml", "--json-only", "INPUT.MIN_SIZE_TRAIN", sizes)
    assert ("box-tiny" in capsys.readouterr().out) == is_tiny


def test_a_dataset_registered_in_python_is_checked_as_its_loader_returns_it(tmp_path, capsys):
    jobs = write_jobs(tmp_path)
    record = {"file_name": "/none.png", "height": 4, "width": 4, "annotations": []}
    DatasetCatalog.register("mine", lambda: [record])
    MetadataCatalog.get("mine").thing_classes = ["cat"]
    opts = ["DATASETS.TRAIN", "('mine',)", "DATASETS.TEST", "()"]
    assert run("--config-file", jobs / "tiny.yaml", *opts) == 1
    said = capsys.readouterr().out
    assert "file-missing" in said and "/none.png" in said


@pytest.mark.skipif(
    not os.path.isdir(f"{DATASETS}/coco"), reason="DETECTRON2_DATASETS holds no COCO"
)
def test_coco_is_free_of_errors(capsys):
    words, folder = ["--decode"], f"{DATASETS}/coco"
    for split in ("train2017", "val2017"):
        words += ["--json", f"{folder}/annotations/instances_{split}.json"]
        words += ["--images", f"{folder}/{split}"]
    assert run(*words) == 0
    assert "crowd: an annotation is a crowd" in capsys.readouterr().out


def test_the_report_is_not_written_over_what_is_checked(tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    json_file, link = write_json(tmp_path / "a.json", coco_content()), tmp_path / "folder/link.json"
    link.symlink_to(json_file)
    before = (tmp_path / "a.json").read_bytes()
    for target in (json_file, link):
        assert run("--json", json_file, "--all", target) == 2
        assert f"{target} is read here" in capsys.readouterr().err
    assert (tmp_path / "a.json").read_bytes() == before


def test_a_full_disk_keeps_the_old_report(dataset, tmp_path, capsys):
    (tmp_path / "all.csv").write_text("old")
    with files_limited_to(50):
        assert run("--json", dataset[0], "--all", tmp_path / "all.csv") == 2
    assert "all.csv cannot be written" in capsys.readouterr().err
    assert (tmp_path / "all.csv").read_text() == "old"


def test_names_in_the_report_are_utf8_and_on_the_terminal_harmless(tmp_path, capsys):
    content = coco_content()
    content["images"][0]["file_name"] = "\x1b[2J\u732b\udcff.png"
    json_file = write_json(tmp_path / "a.json", content)
    assert run("--json", json_file, "--images", tmp_path, "--all", tmp_path / "all.csv") == 1
    assert "\x1b" not in capsys.readouterr().out
    assert "\u732b\\udcff.png" in (tmp_path / "all.csv").read_text("utf-8")
