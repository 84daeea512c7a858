"""Datasets in the layout of Pascal VOC."""

import os

import cv2
import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.pascal_voc import load_voc_instances
from detectron2.evaluation import COCOEvaluator
from helpers.small_datasets import box_ap

from focal_retina.data.checks.entries import check_entries
from focal_retina.data.checks.registered import table_of_dataset
from focal_retina.data.register import register_datasets
from focal_retina.data.voc import read_voc
from focal_retina.errors import UserError

OBJECT = """<object><name>{}</name><difficult>1</difficult><bndbox>
<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""


@pytest.fixture
def folder(tmp_path):
    """Two images to train on, one of them empty and a PNG; one to test on."""
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (tmp_path / name).mkdir(parents=True)
    write_image(tmp_path, "000001.jpg", [("dog", 1, 1, 40, 50), ("cat", 11, 6, 30, 20)])
    write_image(tmp_path, "000002.png", [])
    write_image(tmp_path, "000003.jpg", [("dog", 21, 31, 60, 50)])
    (tmp_path / "ImageSets/Main/train.txt").write_text("000001\n000002 -1\n")
    (tmp_path / "ImageSets/Main/test.txt").write_text("000003\n")
    return tmp_path


def write_image(folder, file_name, objects):
    cv2.imwrite(str(folder / "JPEGImages" / file_name), np.zeros((50, 60, 3), np.uint8))
    size = "<size><width>60</width><height>50</height><depth>3</depth></size>"
    text = "".join(OBJECT.format(*thing) for thing in objects)
    annotation = folder / "Annotations" / f"{file_name.split('.')[0]}.xml"
    annotation.write_text(f"<annotation>{size}{text}</annotation>")


def test_the_classes_are_those_of_all_splits_sorted(folder):
    assert read_voc(str(folder), "test").class_names == ["cat", "dog"]


def test_records_equal_those_of_detectron2_but_for_the_image_id(folder):
    (folder / "ImageSets/Main/jpegs.txt").write_text("000001\n000003\n")
    ours = read_voc(str(folder), "jpegs").records
    theirs = load_voc_instances(str(folder), "jpegs", ["cat", "dog"])
    assert [record.pop("image_id") for record in ours] == [0, 1]
    assert [record.pop("image_id") for record in theirs] == ["000001", "000003"]
    assert ours == theirs


def test_an_image_may_be_empty_or_png_or_the_only_one(folder):
    empty = read_voc(str(folder), "train").records[1]
    assert empty["annotations"] == []
    assert empty["file_name"].endswith("000002.png")
    assert len(read_voc(str(folder), "test").records) == 1


def test_a_registered_folder_is_evaluated_with_the_metrics_of_coco(folder, tmp_path):
    register_datasets([["voc_mine", "voc", str(folder), "train"]] * 2)
    assert MetadataCatalog.get("voc_mine").evaluator_type == "coco"

    def perfect(record):
        return [(thing["bbox"], thing["category_id"]) for thing in record["annotations"]]

    evaluator = COCOEvaluator("voc_mine", output_dir=str(tmp_path / "out"))
    assert box_ap("voc_mine", evaluator, perfect) == pytest.approx(100)


@pytest.mark.parametrize(
    "file, text, complaint",
    [
        ("ImageSets/Main/test.txt", None, "VOC split .*test.txt: cannot be read: No such file"),
        ("JPEGImages/000003.jpg", None, "VOC image .*000003: does not exist"),
        (
            "Annotations/000003.xml",
            "<annotation><object/></annotation>",
            "000003.xml, object 1, <name>: missing",
        ),
        ("Annotations/000003.xml", "<annotation>", "000003.xml: cannot be read"),
    ],
)
def test_missing_and_broken_files_are_named(folder, file, text, complaint):
    (folder / file).unlink()
    if text:
        (folder / file).write_text(text)
    with pytest.raises(UserError, match=complaint):
        register_datasets([["mine", "voc", str(folder), "test"]])


def test_a_folder_without_annotations_is_named(folder):
    for path in (folder / "Annotations").glob("*.xml"):
        path.write_text("<annotation/>")
    with pytest.raises(UserError, match="no objects in .*Annotations"):
        read_voc(str(folder), "train")


def names_of(folder, split="train"):
    """Return the pictures of a split, without folder and suffix."""
    records = read_voc(str(folder), split).records
    start = len(str(folder / "JPEGImages")) + 1
    return [record["file_name"][start:].rpartition(".")[0] for record in records]


@pytest.mark.parametrize(
    "listing, expected",
    [
        ("cat 7\ncat 1\n", ["cat 7", "cat 1"]),
        ("cat -1\r\ncat\t 0\r\n", ["cat", "cat"]),
        ("cat 7 1\ncat 1  -1", ["cat 7", "cat 1"]),
        ("cat.jpg\ncat 7.JPG 1\n", ["cat", "cat 7"]),
        ("# night\n\ncat  # blurred\n#5\n", ["cat", "#5"]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_line_of_a_split_is_a_whole_name_before_it_is_a_name_and_a_number(
    folder, listing, expected, encoding
):
    for name in ("cat", "cat 7", "cat 1", "#5"):
        write_image(folder, f"{name}.jpg", [("cat", 1, 1, 40, 50)])
    (folder / "ImageSets/Main/train.txt").write_bytes(listing.encode(encoding))
    assert names_of(folder) == expected


def test_a_line_that_names_nothing_is_named_with_its_number(folder):
    (folder / "ImageSets/Main/train.txt").write_text("000001\nowl 3\n")
    (place,) = read_voc(str(folder), "train").malformed
    assert str(place).endswith("train.txt, line 2, is 'owl 3': there is no Annotations/owl 3.xml")


@pytest.mark.parametrize("encoding", ["gbk", "shift_jis", "utf-16", "utf-16-le", "utf-7"])
def test_an_xml_is_read_by_its_encoding(folder, encoding):
    text = (folder / "Annotations/000003.xml").read_text().replace("dog", "\u72ac")
    declared = f'<?xml version="1.0" encoding="{encoding}"?>{text}'
    (folder / "Annotations/000003.xml").write_bytes(declared.encode(encoding))
    assert read_voc(str(folder), "test").class_names == ["cat", "dog", "\u72ac"]


@pytest.mark.parametrize(
    "encoding, complaint",
    [("ebcdic-xyz", "encoding ebcdic-xyz is not known"), ("euc-kr", "its text is not euc-kr")],
)
def test_an_encoding_that_is_unknown_or_wrong_is_named(folder, encoding, complaint):
    path = folder / "Annotations/000003.xml"
    text = f'<?xml version="1.0" encoding="{encoding}"?>{path.read_text()}'
    path.write_bytes(text.replace("dog", "d\xf6g").encode("latin1"))
    with pytest.raises(UserError, match=f"000003.xml: .*{complaint}"):
        register_datasets([["mine", "voc", str(folder), "test"]])


def test_white_space_around_a_class_name_makes_no_class(folder):
    write_image(folder, "000003.jpg", [(" dog\n", 1, 1, 9, 9), ("big\t cat", 1, 1, 9, 9)])
    assert read_voc(str(folder), "test").class_names == ["big cat", "cat", "dog"]


@pytest.mark.parametrize(
    "size",
    ["", "<size/>", "<size><width>0</width><height>50</height></size>"],
)
def test_a_size_that_is_not_stated_is_that_of_the_picture(folder, size):
    path = folder / "Annotations/000003.xml"
    start, end = path.read_text().split("<size>")[0], path.read_text().split("</size>")[1]
    path.write_text(start + size + end)
    (record,) = read_voc(str(folder), "test").records
    assert (record["width"], record["height"]) == (60, 50)
    (folder / "JPEGImages/000003.jpg").write_bytes(b"no picture")
    (place,) = read_voc(str(folder), "test").malformed
    assert "000003.xml, <size>: no size, and image" in str(place)


def test_every_fault_is_found_and_named_in_the_words_of_voc(folder):
    write_image(
        folder, "000003.jpg", [("dog", 1, 30, 40, 20), ("", 1, 1, 9, 9), ("cat", 1, 1, 9, 9)]
    )
    write_image(folder, "000004.jpg", [("dog", "left", 1, 40, 20)])
    text = (folder / "Annotations/000004.xml").read_text()
    (folder / "Annotations/000004.xml").write_text(text.replace("<width>60", "<width>60.5"))
    (folder / "Annotations/000005.xml").write_text("<annotation>")
    (folder / "ImageSets/Main/test.txt").write_text("000003\n000004\n000005\n000006\n")
    found = read_voc(str(folder), "test")
    places = [str(place).removeprefix(f"{folder}/") for place in found.malformed]
    files = [place.partition(":")[0].rpartition("/")[2] for place in places]
    assert files == [
        "000003.xml, object 1 (dog), <ymin> is 30.0",
        "000003.xml, object 2, <name>",
        "000004.xml, object 1 (dog), <xmin> is 'left'",
        "000004.xml, <size>, is ['60.5', '50']",
        "000005.xml",
        "test.txt, line 4, is '000006'",
    ]
    assert [len(record["annotations"]) for record in found.records] == [1]


def test_files_that_are_no_annotations_and_not_listed_do_no_harm(folder, caplog):
    for name, text in (("._000001", "\0\1"), ("empty", ""), ("project", "<project/>")):
        (folder / f"Annotations/{name}.xml").write_text(text)
    os.mkfifo(folder / "Annotations/pipe.xml")
    assert names_of(folder) == ["000001", "000002"]
    assert "does not list 1 files that are no VOC annotations" in caplog.text
    assert "empty.xml" in caplog.text


def test_a_listed_pipe_is_a_fault_and_not_waited_for(folder):
    (folder / "Annotations/000003.xml").unlink()
    os.mkfifo(folder / "Annotations/000003.xml")
    (place,) = read_voc(str(folder), "test").malformed
    assert str(place).endswith("000003.xml: is no file")


def test_names_may_have_folders_whose_classes_count(folder):
    for kind in ("Annotations", "JPEGImages"):
        (folder / kind / "night/cam 2").mkdir(parents=True)
    write_image(folder, "night/cam 2/x.jpg", [("owl", 1, 1, 40, 50)])
    (folder / "ImageSets/Main/train.txt").write_text("night/cam 2/x\n000001\n")
    assert names_of(folder) == ["night/cam 2/x", "000001"]
    assert read_voc(str(folder), "test").class_names == ["cat", "dog", "owl"]


def test_a_box_beyond_the_image_is_named_by_its_xml_and_not_asked_about_xywh(folder):
    write_image(folder, "000003.jpg", [("dog", 1, 1, 9, 9), ("dog", 30, 1, 99, 9)])
    register_datasets([["mine", "voc", str(folder), "test"]])
    found = [str(x) for x in check_entries(table_of_dataset("mine")) if "border" in str(x)]
    assert len(found) == 1
    assert "000003.xml, object 2.bbox" in found[0] and "xywh" not in found[0]
