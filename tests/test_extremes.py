"""Real training and evaluation on data sets without objects, and with extreme ones."""

import json
from functools import partial
from pathlib import Path
from string import Template

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.utils.events import EventStorage
from helpers.small_models import tiny_batch, tiny_model
from helpers.tiny_jobs import ROOT, detections, metrics, options, run_here, write_random_weights

from experiments.benchmark.peak_memory import peak_memory
from focal_retina.data.mapper import ResizeShortestEdge
from focal_retina.inference.predictor import Predictor

pytestmark = pytest.mark.slow

# Height, width, and boxes (x, y, width, height).
EXTREMES = [
    (1, 1, [(0, 0, 1, 1)]),
    (1, 20000, [(5000, 0, 9000, 1), (3, 0, 1, 1)]),
    (20000, 1, [(0, 100, 1, 15000)]),
    (40, 60, []),
    (64, 48, [(4, 4, 30, 40), (4, 4, 30, 40), (0, 0, 48, 64)]),
    (80, 80, [(i % 70, i // 70, 1 + i % 9, 2 + i % 7) for i in range(5000)]),
]
CONFIG = Template(Path(__file__).with_name("extremes.yaml").read_text())


def write_job(folder, images, num_classes, profile="paper"):
    """Write images with objects of the first and the last class, and a config; return its path."""
    rng = np.random.default_rng(0)
    content = {"images": [], "annotations": []}
    content["categories"] = [{"id": i + 1, "name": f"class {i}"} for i in range(num_classes)]
    for number, (height, width, boxes) in enumerate(images, 1):
        image = {"id": number, "file_name": f"{number}.png", "height": height, "width": width}
        content["images"].append(image)
        pixels = rng.integers(256, size=(height, width, 3), dtype=np.uint8)
        assert cv2.imwrite(str(folder / image["file_name"]), pixels)
        for box in boxes:
            annotation = {"id": len(content["annotations"]) + 1, "image_id": number}
            annotation |= {"bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            annotation["category_id"] = [1, num_classes][annotation["id"] % 2]
            content["annotations"].append(annotation)
    (folder / "instances.json").write_text(json.dumps(content))
    config = folder / "extreme.yaml"
    config.write_text(CONFIG.substitute(root=ROOT, profile=profile, folder=folder))
    return config


def last_metrics(folder):
    """Return all that was written, by name; the last of each."""
    return {name: value for line in metrics(folder / "output") for name, value in line.items()}


@pytest.mark.parametrize(("profile", "num_classes"), [("paper", 1203), ("detectron2", 1)])
def test_a_batch_of_extreme_images_is_trained_on_and_evaluated(tmp_path, profile, num_classes):
    run_here("--config-file", write_job(tmp_path, EXTREMES, num_classes, profile))
    found = last_metrics(tmp_path)
    assert np.isfinite([found["total_loss"], found["loss_cls"], found["loss_box_reg"]]).all()
    assert found["loss_box_reg"] > 0
    assert 0 <= found["bbox/AP"] <= 100
    assert {x["image_id"] for x in detections(tmp_path / "output")} == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("profile", ["paper", "detectron2"])
def test_a_data_set_without_any_object_is_trained_on_and_evaluated(tmp_path, profile):
    config = write_job(tmp_path, [(40, 60, []), (64, 64, [])], 3, profile)
    run_here("--config-file", config, "SOLVER.IMS_PER_BATCH", 2)
    found = last_metrics(tmp_path)
    assert found["loss_box_reg"] == 0
    assert 0 < found["loss_cls"] < np.inf
    assert (tmp_path / "output/model_final.pth").exists()


def lazy_options(folder):
    names = {"train_datasets": "extreme", "test_datasets": "extreme"}
    data = {"register": f"[[extreme,{folder}/instances.json,{folder}]]", **names}
    sizes = [f"dataloader.{x}.mapper.augmentations.0.max_size=128" for x in ("train", "test")]
    return [*options("py", batch_size=5, output_dir=folder / "output", **data), *sizes]


def test_a_lazy_config_trains_on_extreme_images(jobs, tmp_path):
    write_job(tmp_path, EXTREMES, 6)
    run_here("--config-file", jobs / "tiny.py", *lazy_options(tmp_path))
    assert np.isfinite(last_metrics(tmp_path)["total_loss"])


def test_a_data_set_without_objects_has_to_be_meant(jobs, tmp_path, sentence_of):
    config, key = write_job(tmp_path, [(40, 60, [])], 6), "DATALOADER.FILTER_EMPTY_ANNOTATIONS"
    of_yaml = sentence_of("--config-file", config, key, True)
    of_lazy = sentence_of("--config-file", jobs / "tiny.py", *lazy_options(tmp_path))
    assert "extreme: no image has an object to learn" in of_yaml and key in of_yaml
    assert "dataloader.train.dataset.filter_empty" in of_lazy


def test_predictions_on_extreme_images_lie_inside_them(tmp_path):
    config = write_job(tmp_path, EXTREMES, 2)
    weights = write_random_weights(config)
    found = Predictor(str(config), weights)([tmp_path / f"{i}.png" for i in range(1, 7)])
    assert [x.image_size for x in found] == [image[:2] for image in EXTREMES]
    for instances in found:
        height, width = instances.image_size
        boxes = instances.pred_boxes.tensor
        assert len(boxes) > 0
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height])).all()


@pytest.mark.parametrize("shape", [(1, 20000), (20000, 1), (1, 1), (480, 640), (3, 700)])
def test_resizing_keeps_a_pixel_and_the_limits(shape):
    image = np.zeros((*shape, 3), dtype=np.uint8)
    resized = ResizeShortestEdge([800, 800], 1333).get_transform(image).apply_image(image)
    assert 1 <= min(resized.shape[:2]) <= 800
    assert max(resized.shape[:2]) <= 1333


def test_resizing_is_detectron2s_where_that_leaves_pixels():
    image = np.random.default_rng(0).integers(256, size=(48, 100, 3), dtype=np.uint8)
    resized = []
    for edge_class in (ResizeShortestEdge, T.ResizeShortestEdge):
        np.random.seed(0)
        resized.append(edge_class([40, 60], 90).get_transform(image).apply_image(image))
    assert np.array_equal(*resized)


def test_a_step_on_thousands_of_objects_takes_no_more_memory_than_one_on_a_few():
    model = tiny_model({"MODEL.FPN.OUT_CHANNELS": 32}).train()

    def step(num_objects):
        with EventStorage(0):
            sum(model(tiny_batch([num_objects], (512, 512))).values()).backward()

    step(5)  # gradients are there from now on
    few, thousands = (peak_memory(partial(step, n), torch.device("cpu")) for n in (5, 5000))
    # All IoUs of 5,000 objects with the 49,104 anchors would be 937 MiB.
    assert thousands < few + 150
