"""The predict tool on pictures, folders, globs, videos and cameras."""

import importlib
import itertools
import json
import os

import cv2
import numpy as np
import pytest
from helpers.mounts import files_limited_to
from helpers.tiny_jobs import catalogs_restored, write_jobs, write_random_weights
from pycocotools.coco import COCO

from focal_retina.inference.predictor import Predictor
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
    assert all(f" {path} " in errors for path in broken)
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


def test_odd_names_and_kinds_are_predicted_on_and_drawn(job, tmp_path, capsys):
    folder = tmp_path / "odd"
    folder.mkdir()
    picture = (job / "pictures/b.jpg").read_bytes()
    stems = [
        b"\xfe\xff",
        b"two\nlines",
        "\u732b\x1b[2J".encode(),
        b"n" * 250,
        "\u00e9".encode() * 125,
    ]
    for stem in stems:
        (folder / os.fsdecode(stem + b".jpe")).write_bytes(picture)
    cv2.imwrite(str(folder / "z.png"), np.zeros((2, 65_600, 3), np.uint8))  # no JPEG is as wide
    os.mkfifo(folder / "pipe.jpg")
    assert predict(job, tmp_path / "out", folder) == 0
    assert len(content(tmp_path / "out", "images.json")["images"]) == len(stems) + 1
    drawn = [path for path in (tmp_path / "out").iterdir() if path.suffix != ".json"]
    assert len(drawn) == len(stems) + 1 and all(path.name.isprintable() for path in drawn)
    said = capsys.readouterr()
    assert "pipe.jpg is no regular file" in said.err and "\x1b" not in said.out + said.err


@pytest.mark.parametrize("output", ["pictures", "pictures/../pictures", "."])
def test_the_folder_of_an_input_is_not_written_to(output, job, capsys):
    before = sorted(job.rglob("*"))
    assert predict(job, job / output, job / "pictures/a.png", job / "video.avi") == 2
    assert "name another folder" in capsys.readouterr().err
    assert sorted(job.rglob("*")) == before


def test_a_json_that_the_config_names_is_not_written_over(job, tmp_path, capsys):
    (source,) = job.glob("val-*/instances.json")
    (tmp_path / "images.json").write_bytes(source.read_bytes())
    override = f"{SCORE_THRESH} DATASETS.TEST ('own',) DATASETS.REGISTER"
    registered = f"[['own','{tmp_path}/images.json','{source.parent}/images']]"
    assert predict(job, tmp_path, job / "pictures", threshold=f"{override} {registered}") == 2
    assert f"{tmp_path}/images.json is read here" in capsys.readouterr().err
    assert (tmp_path / "images.json").read_bytes() == source.read_bytes()


def fails_at(number, error, function):
    """Return a function that raises an error at one of its calls."""
    calls = itertools.count(1)

    def call(*args):
        if next(calls) == number:
            raise error
        return function(*args)

    return call


PLACES = ("focal_retina.tools.predict.draw_detections", "focal_retina.tools.predict.write_picture")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt], ids=lambda x: x.__name__)
def test_results_so_far_are_kept_at_a_bug_and_at_ctrl_c(place, error, job, tmp_path, monkeypatch):
    module, _, name = place.rpartition(".")
    function = getattr(importlib.import_module(module), name)
    monkeypatch.setattr(place, fails_at(2, error, function))
    with pytest.raises(error):
        predict(job, tmp_path, job / "pictures")
    assert len(content(tmp_path, "images.json")["images"]) == 2
    assert {x["image_id"] for x in content(tmp_path)} == {1, 2}
    assert (tmp_path / "000001_a.jpg").is_file()


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")], ids=repr
)
@pytest.mark.parametrize("batch_size", ["1", "2"])
def test_a_picture_that_exceeds_the_memory_is_named_and_the_others_are_predicted_on(
    batch_size, error, job, tmp_path, monkeypatch, capsys
):
    def network_input(self, image):
        if image.shape[1] > 90:
            raise error
        return original(self, image)

    original = Predictor.network_input
    monkeypatch.setattr(Predictor, "network_input", network_input)
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((50, 100, 3), np.uint8))
    inputs = job / "pictures/a.png", tmp_path / "large.png", job / "pictures/b.jpg"
    assert predict(job, tmp_path / "out", *inputs, "--batch-size", batch_size) == 1
    (said,) = [x for x in capsys.readouterr().err.splitlines() if "error" in x]
    assert "large.png needs more memory" in said
    assert len(content(tmp_path / "out", "images.json")["images"]) == 2


def test_a_full_disk_is_one_sentence_and_status_2(job, tmp_path, capsys):
    with files_limited_to(5000):
        assert predict(job, tmp_path, job / "pictures") == 2
    (said,) = [x for x in capsys.readouterr().err.splitlines() if "error" in x]
    assert "cannot be written" in said
    assert content(tmp_path, "images.json")["images"] and content(tmp_path) == []


def test_without_drawing_there_are_results_alone(job, tmp_path):
    assert predict(job, tmp_path, job / "pictures", job / "video.avi", "--no-draw") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"images.json", "predictions.json"}
    assert len(content(tmp_path, "images.json")["images"]) == 6


def test_a_file_gets_no_progress_bar(job, tmp_path, capsys):
    assert predict(job, tmp_path, job / "pictures", job / "video.avi") == 0
    assert "\r" not in capsys.readouterr().err
