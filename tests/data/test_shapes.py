"""The shapes dataset: the same everywhere, boxes that fit, COCO format, never half written."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from numpy.random import RandomState
from pycocotools.coco import COCO

from focal_retina.data import drawing
from focal_retina.data.drawing import CLASSES, draw_scene
from focal_retina.data.shapes import register_shapes, write_shapes

SIZE = 64


def pixel_hashes(target):
    images = [cv2.imread(str(path)) for path in sorted((target / "images").iterdir())]
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]


def content_of(target):
    return pixel_hashes(target), json.loads((target / "instances.json").read_text())


def scenes(count, side=SIZE):
    return [draw_scene(RandomState([7, index]), side) for index in range(count)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), "train", 60, SIZE)


def test_more_images_begin_with_the_same_ones(written, tmp_path):
    fewer = write_shapes(tmp_path, "train", 5, SIZE)
    assert pixel_hashes(fewer) == pixel_hashes(written)[:5]


@pytest.mark.parametrize("other", [("val", 60, SIZE), ("train", 60, SIZE, 1)])
def test_another_split_or_seed_shows_other_images(written, tmp_path, other):
    assert not set(pixel_hashes(write_shapes(tmp_path, *other))) & set(pixel_hashes(written))


def test_all_classes_empty_images_and_crowds_occur():
    counts = [len(objects) for _, objects in scenes(300)]
    classes = {drawn.category for _, objects in scenes(300) for drawn in objects}
    assert classes == set(range(len(CLASSES)))
    assert min(counts) == 0
    assert 15 <= max(counts) <= 20


@pytest.mark.parametrize("side", [64, 101, 320])
def test_boxes_are_inside_the_image_and_hold_the_visible_pixels(side):
    for image, objects in scenes(40, side):
        assert image.shape == (side, side, 3)
        for x, y, w, h in (drawn.bbox for drawn in objects):
            assert min(x, y) >= 0 and max(x + w, y + h) <= side
            assert min(w, h) > 0


def test_objects_are_small_to_large():
    longest = [max(drawn.bbox[2:]) / 160 for _, objects in scenes(100, 160) for drawn in objects]
    assert min(longest) < 0.15
    assert max(longest) > 0.7


def test_nothing_drawn_lacks_a_box_and_every_box_touches_what_is_drawn(monkeypatch):
    black = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    monkeypatch.setattr(drawing, "_background", lambda random, side: black.copy())
    drawn = scenes(300)
    # Then the box of a lone object is tight.
    assert sum(len(objects) == 1 for _, objects in drawn) >= 5
    for image, objects in drawn:
        # half of the darkest rim colour; noise stays below
        seen = image.max(axis=2) > 40
        boxed = np.zeros_like(seen)
        for x, y, w, h in (thing.bbox for thing in objects):
            boxed[max(y - 1, 0) : y + h + 1, max(x - 1, 0) : x + w + 1] = True
            inside = seen[y : y + h, x : x + w]
            assert inside[:2].any() and inside[-2:].any()
            assert inside[:, :2].any() and inside[:, -2:].any()
        assert not (seen & ~boxed).any()


def test_the_json_loads_with_pycocotools_and_with_detectron2(written):
    json_file, image_root = str(written / "instances.json"), str(written / "images")
    coco = COCO(json_file)
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    records = load_coco_json(json_file, image_root, "shapes_format_test")
    assert len(records) == len(coco.imgs) == 60
    assert sum(len(record["annotations"]) for record in records) == len(coco.anns) > 200
    assert all(cv2.imread(r["file_name"]).shape == (r["height"], r["width"], 3) for r in records)


def test_what_is_complete_is_not_written_again(tmp_path):
    before, after = (
        [path.stat().st_mtime_ns for path in write_shapes(tmp_path, "val", 3, SIZE).rglob("*.*")]
        for _ in range(2)
    )
    assert after == before


@pytest.mark.parametrize(
    "file, content",
    [
        ("images/000002.png", None),
        ("images/000002.png", b"cut off"),
        ("instances.json", None),
        ("instances.json", b'{"info": {"version"'),
        ("instances.json", b"[]"),
    ],
)
def test_what_is_damaged_is_drawn_again(tmp_path, file, content):
    target = write_shapes(tmp_path, "val", 3, SIZE)
    before = content_of(target)
    (target / file).unlink()
    if content is not None:
        (target / file).write_bytes(content)
    write_shapes(tmp_path, "val", 3, SIZE)
    assert content_of(target) == before


def test_the_same_parameters_give_the_same_dataset_also_to_several_at_once(written, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        (target,) = set(pool.map(lambda _: write_shapes(tmp_path, "train", 60, SIZE), range(4)))
    assert content_of(target) == content_of(written)


@pytest.mark.parametrize("num_images, size, seed", [(0, 64, 0), (1, 63, 0), (1, 64, -1)])
def test_a_parameter_out_of_range_is_refused(tmp_path, num_images, size, seed):
    with pytest.raises(ValueError, match="shapes dataset needs"):
        write_shapes(tmp_path, "val", num_images, size, seed)
    assert list(tmp_path.iterdir()) == []


def test_registered_names_are_written_when_loaded_and_can_be_registered_anew(tmp_path):
    register_shapes(tmp_path / "a", 4, 2, SIZE)
    assert not (tmp_path / "a").exists()
    assert len(DatasetCatalog.get("shapes_train")) == 4
    register_shapes(tmp_path / "b", 3, 2, SIZE)
    assert len(DatasetCatalog.get("shapes_train")) == 3
    assert len(DatasetCatalog.get("shapes_val")) == 2
    metadata = MetadataCatalog.get("shapes_val")
    assert metadata.thing_classes == list(CLASSES)
    assert metadata.json_file.startswith(str(tmp_path / "b"))


def test_without_a_folder_the_images_go_next_to_detectron2s_datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    register_shapes(val_images=2, image_size=SIZE)
    assert len(DatasetCatalog.get("shapes_val")) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]
