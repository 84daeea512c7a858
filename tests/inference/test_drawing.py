"""Boxes and labels on pictures: where they are, in which letters, in how much memory."""

import tracemalloc

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from focal_retina.box_drawing import COLORS, draw_boxes
from focal_retina.errors import UserError
from focal_retina.inference.drawing import draw_detections
from focal_retina.inference.fonts import label_font


def drawn(names, boxes, size=(120, 200), font=None):
    """Return a black picture with a detection of each class."""
    image = np.zeros((*size, 3), np.uint8)
    scores, classes = torch.full((len(boxes),), 0.875), torch.arange(len(boxes))
    found = Instances(size, pred_boxes=Boxes(boxes), scores=scores, pred_classes=classes)
    image.setflags(write=False)  # as those are that Pillow has read
    return draw_detections(image, found, names, font or label_font(names))


def test_each_box_has_the_colour_of_its_class_and_nothing_inside():
    image = np.zeros((90, 90, 3), np.uint8)
    draw_boxes(image, [[10, 10, 40, 60], [50, 20, 80, 80]], [3, 3 + len(COLORS)])
    assert {tuple(x) for x in image.reshape(-1, 3).tolist()} == {(0, 0, 0), COLORS[3]}
    assert not image[15:55, 15:35].any() and image[10, 10:40].all() and image[20:80, 80].all()


@pytest.mark.parametrize("box", [[-50.0, -9, 30, 20], [150.0, 90, 900, 1e9], [0.0, 0, 200, 120]])
def test_boxes_and_labels_stay_inside_the_picture(box):
    label_only = drawn(["a long name of a class"], [box])
    plain = np.zeros_like(label_only)
    draw_boxes(plain, [box], [0])
    assert plain.any() and (label_only != plain).any()


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (300, 2)])
def test_a_picture_smaller_than_a_label_takes_what_fits(size):
    assert drawn(["class"], [[0.0, 0, 1, 1]], size).any()


def test_letters_of_other_scripts_are_legible(caplog):
    images = [drawn([name], [[50.0, 50, 90, 90]]) for name in ("Ж", "Я", "λ", "é")]
    assert len({image.tobytes() for image in images}) == 4
    assert not caplog.records


def test_a_font_that_lacks_letters_is_named_with_them_once(caplog):
    font = label_font(["cat"])
    assert label_font(["猫", "犬", "cat"], font) == font
    (record,) = caplog.records
    assert font in record.getMessage() and "猫犬" in record.getMessage()


def test_a_file_that_is_no_font_is_named(tmp_path):
    (tmp_path / "font.ttf").write_text("no font")
    with pytest.raises(UserError, match="--font .*font.ttf cannot be read"):
        label_font(["cat"], str(tmp_path / "font.ttf"))


def test_a_line_break_in_a_class_name_does_not_end_the_drawing():
    assert drawn(["two\nlines\x1b[31m"], [[5.0, 5, 50, 50]]).any()


def test_drawing_takes_a_small_share_of_a_large_picture_s_memory():
    boxes = torch.rand(50, 4) * 1500
    boxes[:, 2:] += boxes[:, :2]
    names = [f"class {i}" for i in range(50)]
    font = label_font(names)
    drawn(names, boxes, font=font)
    tracemalloc.start()
    image = drawn(names, boxes, (3000, 3000), font)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.1 * image.nbytes  # with the picture itself
