"""The predict tool on pictures, folders, globs and a video."""

import json

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from tiny_jobs import catalogs_restored, write_jobs

from focal_retina.engine.predictor import Predictor
from focal_retina.tools.predict import main


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The folder of a tiny config with weights, pictures and a video."""
    folder = write_jobs(tmp_path_factory.mktemp("tiny"))
    torch.save({"model": {}}, folder / "weights.pth")
    with catalogs_restored():
        model = Predictor(str(folder / "tiny.yaml"), folder / "weights.pth").model
    torch.save({"model": model.state_dict()}, folder / "weights.pth")
    pictures = folder / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg"):
        cv2.imwrite(str(pictures / name), rng.integers(256, size=(48, 64, 3), dtype=np.uint8))
    codec = cv2.VideoWriter_fourcc(*"MJPG")
    video = cv2.VideoWriter(str(folder / "video.avi"), codec, 5, (64, 48))
    for _ in range(4):
        video.write(rng.integers(256, size=(48, 64, 3), dtype=np.uint8))
    video.release()
    return folder


def predict(job, output, *inputs):
    command = [*inputs, "--config-file", job / "tiny.yaml", "--weights", job / "weights.pth"]
    opts = ["--opts", "MODEL.RETINANET.SCORE_THRESH_TEST", "0.001"]
    with catalogs_restored():
        return main([str(x) for x in [*command, "--output", output, *opts]])


def test_pycocotools_loads_the_predictions(job, tmp_path):
    inputs = job / "pictures", job / "video.avi"
    assert predict(job, tmp_path, *inputs, "--batch-size", "3") == 0
    ground_truth = COCO(str(tmp_path / "images.json"))
    results = ground_truth.loadRes(str(tmp_path / "predictions.json"))
    assert set(results.getImgIds()) == {1, 2, 3, 4, 5, 6}
    assert len(results.anns) > 6
    names = [x["file_name"] for x in ground_truth.loadImgs([1, 2, 3, 6])]
    folder = job / "pictures"
    video = job / "video.avi"
    assert names == [f"{folder}/a.png", f"{folder}/b.jpg", f"{video}#0", f"{video}#3"]


def test_pictures_and_videos_keep_their_size_and_frames(job, tmp_path):
    assert predict(job, tmp_path, job / "pictures/*.png", job / "video.avi") == 0
    assert cv2.imread(str(tmp_path / "000001_a.jpg")).shape == (48, 64, 3)
    video = cv2.VideoCapture(str(tmp_path / "000002_video.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert video.read()[1].shape == (48, 64, 3)


def test_the_threshold_of_drawing_leaves_the_predictions_alone(job, tmp_path):
    picture = job / "pictures/a.png"
    for folder, threshold in (("all", "0"), ("none", "1")):
        arguments = picture, "--draw-thresh", threshold
        assert predict(job, tmp_path / folder, *arguments) == 0
    all_, none = (
        json.loads((tmp_path / x / "predictions.json").read_text()) for x in ("all", "none")
    )
    assert len(all_) == len(none) > 0
    drawn, plain = (cv2.imread(str(tmp_path / x / "000001_a.jpg")) for x in ("all", "none"))
    original = cv2.imread(str(picture))
    assert np.abs(drawn.astype(int) - original).mean() > np.abs(plain.astype(int) - original).mean()


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(job, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    broken = tmp_path / "broken.png", tmp_path / "broken.mp4", tmp_path / "missing.png"
    assert predict(job, tmp_path / "out", *broken, job / "pictures") == 1
    errors = capsys.readouterr().err
    assert all(f"{path} " in errors for path in broken)
    assert len(json.loads((tmp_path / "out/images.json").read_text())["images"]) == 2


def test_a_mistake_ends_in_one_sentence(job, tmp_path, capsys):
    assert predict(job, tmp_path) == 2
    assert "nothing to predict on" in capsys.readouterr().err
