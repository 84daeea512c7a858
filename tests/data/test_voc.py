"""Datasets in the layout of Pascal VOC."""

import cv2
import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.pascal_voc import load_voc_instances
from detectron2.evaluation import COCOEvaluator
from helpers.small_datasets import box_ap

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
        ("ImageSets/Main/test.txt", None, "VOC split .*test.txt cannot be read: No such file"),
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
