"""The tool as users run it: what it prints, what it writes, and what it says of mistakes."""

import io
import json
import re
import sys

import cv2
import pytest
from detectron2.modeling import build_model
from helpers.tiny_jobs import write_jobs

from focal_retina.settings.yaml_config import load_yaml
from focal_retina.tools.analyze_anchors import main

QUICK = ["--max-objects", "50", "--generations", "2"]


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    return str(write_jobs(tmp_path_factory.mktemp("tiny")) / "tiny.yaml")


def analyze(config_file, output, *arguments):
    return main(["--config-file", config_file, "--output", str(output), *arguments])


def report_of(*arguments):
    """Analyze, and return the report that is written."""
    assert analyze(*arguments) == 0
    return (arguments[1] / "report.md").read_text()


def cells(report, group):
    """Return the cells of the table's rows of a group."""
    rows = re.findall(rf"^\| {group} .*$", report, re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]


def test_the_report_covers_both_datasets_and_the_proposal_builds(config_file, tmp_path, capsys):
    report = report_of(config_file, tmp_path, *QUICK)
    assert report.strip() in capsys.readouterr().out
    for all_objects in cells(report, "all"):
        assert all(" → " in cell for cell in all_objects[3:])
    assert re.findall("^## (.*)$", report, re.MULTILINE) == ["tiny_train", "tiny_val"]
    assert cv2.imread(str(tmp_path / "anchors.png")).std() > 10

    proposed = load_yaml(str(tmp_path / "proposal.yaml"), ["MODEL.DEVICE", "cpu"])
    configured = load_yaml(config_file)
    assert proposed.MODEL.ANCHOR_GENERATOR.SIZES != configured.MODEL.ANCHOR_GENERATOR.SIZES
    assert proposed.INPUT == configured.INPUT
    assert sum(build_model(proposed).anchor_generator.num_anchors) == 45


def test_groups_of_a_kind_add_up_and_shares_to_one(config_file, tmp_path):
    report = report_of(config_file, tmp_path, "--no-proposal")
    [every, _] = cells(report, "all")
    assert sum(float(x.rstrip("%")) for x in every[4:7]) == pytest.approx(100, abs=0.2)
    train = report.split("\n## ")[0]
    for kind in (r"(?:small|medium|large)", r"[\d.]+ to [\d.]+ pixels", "height/width"):
        assert sum(int(row[1]) for row in cells(train, kind)) == int(every[1])
    assert not (tmp_path / "proposal.yaml").exists()


def test_objects_without_foreground_are_named_by_file_and_annotation(config_file, tmp_path):
    opts = ["MODEL.ANCHOR_GENERATOR.SIZES", "[[300]]", "MODEL.FOCAL_RETINA.LOW_QUALITY_MATCHES"]
    report = report_of(config_file, tmp_path, "--no-proposal", *opts, "none")
    assert re.search(r"00000\d\.png: annotation \d+, .* best IoU 0\.\d+", report)
    [every, _] = cells(report, "all")
    assert every[-1] == every[-2] == every[2] == every[1]


def test_a_sample_of_the_images_is_labelled_and_the_report_says_so(config_file, tmp_path):
    report = report_of(config_file, tmp_path, "--no-proposal", "--max-images", "2")
    assert "2 of 4 images with objects, a random sample." in report
    [every, _] = cells(report, "all")
    assert 0 < int(every[2]) < int(every[1])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--dataset", "tiny_trian"], "tiny_trian"),
        (["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"], "MODEL.META_ARCHITECTURE"),
        (["--output", "{config_file}"], "File exists"),
    ],
)
def test_a_mistake_ends_in_one_sentence_that_names_it(
    config_file, tmp_path, capsys, arguments, named
):
    arguments = [x.format(config_file=config_file) for x in arguments]
    assert analyze(config_file, tmp_path, *arguments) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("analyze_anchors: error: ")
    assert named in message


def test_objects_that_vanish_at_the_size_of_training_are_said_to(tmp_path, capsys):
    jobs = write_jobs(tmp_path)
    path = next(jobs.glob("train-*/instances.json"))
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["width"] = image["height"] = 3000
    for annotation in content["annotations"]:
        annotation["bbox"] = [1500, 1500, 2, 2]
    path.write_text(json.dumps(content))
    assert analyze(str(jobs / "tiny.yaml"), tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    count = len(content["annotations"])
    assert "INPUT.MIN_SIZE_TRAIN (64,)" in line
    assert f"0 crowds, {count} boxes without area in the resized image" in line


FLAGS = ("--scales-per-octave", "--aspect-ratios", "--max-images", "--max-objects")


@pytest.mark.parametrize("flag", [None, *FLAGS])
def test_a_flag_that_is_missing_or_out_of_range_is_named(capsys, flag):
    with pytest.raises(SystemExit):
        main(["--config-file", "a.yaml", flag, "0"] if flag else [])
    named = f"argument {flag}: '0' is not" if flag else "--config-file"
    assert named in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("name", ["proposal.yaml", "other.yaml"])
def test_a_proposal_is_not_written_over_the_config_that_it_is_based_on(
    name, config_file, tmp_path, capsys
):
    (tmp_path / "proposal.yaml").write_text(f"_BASE_: {config_file}\n")
    (tmp_path / "other.yaml").write_text("_BASE_: proposal.yaml\n")
    assert analyze(str(tmp_path / name), tmp_path) == 2
    assert "proposal.yaml is read here" in capsys.readouterr().err
    assert (tmp_path / "proposal.yaml").read_text() == f"_BASE_: {config_file}\n"
    assert len(list(tmp_path.iterdir())) == 2


def test_the_report_is_utf8_where_the_terminal_knows_ascii_only(config_file, tmp_path, monkeypatch):
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", screen)
    assert analyze(config_file, tmp_path, *QUICK) == 0
    screen.flush()
    assert rb"\u2192" in screen.buffer.getvalue()
    assert " \u2192 " in (tmp_path / "report.md").read_text("utf-8")
