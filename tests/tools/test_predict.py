"""The predict tool on pictures, folders, globs, videos and cameras."""

import json

import cv2
import numpy as np
import pytest
from helpers.tiny_jobs import catalogs_restored, write_jobs, write_random_weights
from pycocotools.coco import COCO

from focal_retina.tools.predict import main

pytestmark = pytest.mark.slow

SCORE_THRESH = "MODEL.RETINANET.SCORE_THRESH_TEST 0.001"


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The folder of a tiny config with weights, pictures and a video."""
    folder = write_jobs(tmp_path_factory.mktemp("tiny"))
    write_random_weights(folder / "tiny.yaml")
    (folder / "pictures").mkdir()
    rng = np.random.default_rng(0)
    video = cv2.VideoWriter(str(folder / "video.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for name in ("a.png", "b.jpg", None, None, None, None):
        image = rng.integers(256, size=(48, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "pictures" / name), image) if name else video.write(image)
    video.release()
    return folder


def predict(job, output, *inputs, config="tiny.yaml", threshold=SCORE_THRESH):
    command = [*inputs, "--config-file", job / config, "--weights", job / "weights.pth"]
    with catalogs_restored():
        return main([str(x) for x in [*command, "--output", output, "--opts", *threshold.split()]])


def content(folder, name="predictions.json"):
    return json.loads((folder / name).read_text())


def test_pycocotools_loads_the_predictions(job, tmp_path):
    pictures, video = job / "pictures", job / "video.avi"
    assert predict(job, tmp_path, pictures, video, "--batch-size", "3") == 0
    ground_truth = COCO(str(tmp_path / "images.json"))
    results = ground_truth.loadRes(str(tmp_path / "predictions.json"))
    assert set(results.getImgIds()) == {1, 2, 3, 4, 5, 6}
    assert len(results.anns) > 6
    names = [x["file_name"] for x in ground_truth.loadImgs([1, 2, 3, 6])]
    assert names == [f"{pictures}/a.png", f"{pictures}/b.jpg", f"{video}#0", f"{video}#3"]


def test_pictures_and_videos_keep_their_size_and_frames(job, tmp_path):
    assert predict(job, tmp_path, job / "pictures/*.png", job / "video.avi") == 0
    assert cv2.imread(str(tmp_path / "000001_a.jpg")).shape == (48, 64, 3)
    video = cv2.VideoCapture(str(tmp_path / "000002_video.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert video.read()[1].shape == (48, 64, 3)


def test_the_threshold_of_drawing_leaves_the_predictions_alone(job, tmp_path):
    picture, folders = job / "pictures/a.png", (tmp_path / "all", tmp_path / "none")
    for folder, threshold in zip(folders, "01", strict=True):
        assert predict(job, folder, picture, "--draw-thresh", threshold) == 0
    all_, none = map(content, folders)
    assert len(all_) == len(none) > 0
    drawn, plain = (cv2.imread(str(x / "000001_a.jpg")) for x in folders)
    original = cv2.imread(str(picture))
    assert np.abs(drawn.astype(int) - original).mean() > np.abs(plain.astype(int) - original).mean()


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(job, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    broken = tmp_path / "broken.png", tmp_path / "broken.mp4", tmp_path / "missing.png"
    assert predict(job, tmp_path / "out", *broken, job / "pictures") == 1
    errors = capsys.readouterr().err
    assert all(f"predict: error: {path} " in errors for path in broken)
    assert len(content(tmp_path / "out", "images.json")["images"]) == 2


def test_a_lazy_config_predicts_like_a_yaml_config_of_the_same_choices(job, tmp_path):
    text = (job / "tiny.py").read_text()
    # What the LazyConfig's profile, the paper's, has otherwise.
    (job / "same.py").write_text(f"{text}\nmodel.anchor_generator.offset = 0.0\n")
    folders = tmp_path / "yaml", tmp_path / "lazy"
    assert predict(job, folders[0], job / "pictures") == 0
    threshold = "model.postprocessor.score_thresh=0.001"
    pictures = job / "pictures"
    assert predict(job, folders[1], pictures, config="same.py", threshold=threshold) == 0
    yaml, lazy = map(content, folders)
    assert lazy == yaml and len(lazy) > 0


@pytest.mark.parametrize(
    ("options", "frames_until_ctrl_c", "num_frames"),
    [(["--max-frames", "3"], 100, 3), ([], 2, 2)],
    ids=["max-frames", "Ctrl-C"],
)
def test_a_camera_is_predicted_on_until_max_frames_or_ctrl_c(
    options, frames_until_ctrl_c, num_frames, job, tmp_path, monkeypatch
):
    open_with_opencv = cv2.VideoCapture
    video = open_with_opencv(str(job / "video.avi"))

    class Camera:
        """OpenCV's camera 0, which shows the video and does not say how long it is."""

        def __init__(self):
            self.isOpened, self.release = video.isOpened, video.release
            self.frames_left = frames_until_ctrl_c

        def get(self, what):
            return 0.0

        def read(self):
            self.frames_left -= 1
            if self.frames_left < 0:
                raise KeyboardInterrupt
            return video.read()

    with monkeypatch.context() as patching:
        patching.setattr(
            "focal_retina.inference.videos.cv2.VideoCapture",
            lambda source: Camera() if source == 0 else open_with_opencv(source),
        )
        assert predict(job, tmp_path, "--webcam", "0", *options) == 0
    names = [x["file_name"] for x in content(tmp_path, "images.json")["images"]]
    assert names == [f"webcam0#{i}" for i in range(num_frames)]
    written = cv2.VideoCapture(str(tmp_path / "000001_webcam0.mp4"))
    assert written.get(cv2.CAP_PROP_FRAME_COUNT) == num_frames


@pytest.mark.parametrize(
    ("inputs", "status", "sentence"),
    [("", 2, "nothing to predict on"), ("--webcam 97", 1, "camera 97 cannot be opened")],
)
def test_no_input_and_a_camera_that_is_not_there_are_named(
    inputs, status, sentence, job, tmp_path, capsys
):
    assert predict(job, tmp_path, *inputs.split()) == status
    assert f"predict: error: {sentence}" in capsys.readouterr().err
