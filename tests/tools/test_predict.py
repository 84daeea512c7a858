"""The predict tool on pictures, folders, globs and a video."""

import json

import cv2
import numpy as np
import pytest
from helpers.tiny_jobs import catalogs_restored, write_jobs, write_random_weights
from pycocotools.coco import COCO

from focal_retina.tools.predict import main


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The folder of a tiny config with weights, pictures and a video."""
    folder = write_jobs(tmp_path_factory.mktemp("tiny"))
    write_random_weights(folder / "tiny.yaml")
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
    opts = ["MODEL.RETINANET.SCORE_THRESH_TEST", "0.001"]
    return run(job, "tiny.yaml", opts, output, *inputs)


def run(job, config, opts, output, *inputs):
    command = [*inputs, "--config-file", job / config, "--weights", job / "weights.pth"]
    with catalogs_restored():
        return main([str(x) for x in [*command, "--output", output, "--opts", *opts]])


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


def test_a_lazy_config_predicts_like_a_yaml_config_of_the_same_choices(job, tmp_path):
    text = (job / "tiny.py").read_text()
    # What the LazyConfig's profile, the paper's, has otherwise.
    (job / "same.py").write_text(f"{text}\nmodel.anchor_generator.offset = 0.0\n")
    pictures = job / "pictures"
    assert predict(job, tmp_path / "yaml", pictures) == 0
    opts = ["model.postprocessor.score_thresh=0.001"]
    assert run(job, "same.py", opts, tmp_path / "lazy", pictures) == 0
    yaml, lazy = (
        json.loads((tmp_path / x / "predictions.json").read_text()) for x in ("yaml", "lazy")
    )
    assert lazy == yaml and len(lazy) > 0


def test_a_camera_that_is_not_there_is_named(job, tmp_path, capsys):
    assert predict(job, tmp_path, "--webcam", "97") == 1
    assert "predict: camera 97 cannot be opened" in capsys.readouterr().err


@pytest.fixture
def camera(job, monkeypatch):
    """Let OpenCV's camera 0 show the video, of which a camera would not say how long it is."""

    class Camera:
        def __init__(self, number):
            assert number == 0
            self.video, self.interrupt_after = captured(str(job / "video.avi")), Camera.frames

        def get(self, what):
            return 0.0

        def read(self):
            if self.interrupt_after == 0:
                raise KeyboardInterrupt
            self.interrupt_after -= 1
            return self.video.read()

        def __getattr__(self, name):
            return getattr(self.video, name)

    captured = cv2.VideoCapture
    Camera.frames = 100
    monkeypatch.setattr("focal_retina.inference.videos.cv2.VideoCapture", Camera)
    yield Camera
    monkeypatch.undo()


def frames_of(folder):
    """Return the names of predicted frames, and how many the written video has."""
    images = json.loads((folder / "images.json").read_text())["images"]
    video = cv2.VideoCapture(str(folder / "000001_webcam0.mp4"))
    return [x["file_name"] for x in images], video.get(cv2.CAP_PROP_FRAME_COUNT)


def test_a_camera_is_predicted_on_until_max_frames(job, tmp_path, camera, monkeypatch):
    assert predict(job, tmp_path, "--webcam", "0", "--max-frames", "3") == 0
    monkeypatch.undo()
    assert frames_of(tmp_path) == (["webcam0#0", "webcam0#1", "webcam0#2"], 3)


def test_ctrl_c_ends_a_camera_and_keeps_what_it_saw(job, tmp_path, camera, monkeypatch):
    camera.frames = 2
    assert predict(job, tmp_path, "--webcam", "0") == 0
    monkeypatch.undo()
    assert frames_of(tmp_path) == (["webcam0#0", "webcam0#1"], 2)


def test_nothing_to_predict_on_is_a_mistake(job, tmp_path, capsys):
    assert predict(job, tmp_path) == 2
    assert "nothing to predict on" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--max-frames", "--batch-size"])
def test_a_number_out_of_range_is_named(job, tmp_path, capsys, option):
    with pytest.raises(SystemExit, match="2"):
        predict(job, tmp_path, "a.png", option, "0")
    assert f"{option}: '0'" in capsys.readouterr().err
