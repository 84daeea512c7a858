"""Weights that are damaged, hostile or of something else."""

import io
import pickle
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from bad_input.running import Case
from helpers.foreign_models import Burglar
from helpers.tiny_jobs import run_here

from focal_retina.settings.load import load_settings


def prepare(jobs: Path) -> None:
    """Train the tiny model once, to have weights that fit; and write those of one class."""
    run_here(
        "--config-file", jobs / "tiny.yaml", "OUTPUT_DIR", jobs / "trained", "SOLVER.MAX_ITER", 1
    )
    one = ["MODEL.RETINANET.NUM_CLASSES", "1", "MODEL.DEVICE", "cpu"]
    model = load_settings(str(jobs / "tiny.yaml"), one, trains=False).parts.model()
    torch.save({"model": model.state_dict()}, jobs / "one.pth")


def saved(content: object, *, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def archive(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return buffer.getvalue()


# Made by a hostile file that gets to run.
RAN = Path(tempfile.gettempdir(), "bad_input_ran")
WEIGHT = "head.bbox_pred.weight"
SOME = {"model": {WEIGHT: torch.zeros(2, 2)}}
WHOLE = saved({"model": {f"a{i}": torch.zeros(100) for i in range(20)}})
# File -> content; the sentence names the file.
FILES = {
    "empty.pth": b"",
    "text.pth": "these are no weights\n",
    "html.pth": "<!DOCTYPE html><html><body>404 Not Found</body></html>\n",
    "picture.pth": b"\x89PNG\r\n\x1a\n" + bytes(300),
    "zeros.pth": bytes(1000),
    "random.pth": np.random.default_rng(0).bytes(5000),
    "folder.pth": None,
    "half.pth": WHOLE[: len(WHOLE) // 2],
    "head.pth": WHOLE[:100],
    "tail.pth": WHOLE[-100:],
    "almost.pth": WHOLE[:-1],
    "flipped.pth": WHOLE[:200] + bytes(200) + WHOLE[400:],
    "zip.pth": archive(**{"a.txt": b"hello"}),
    "zip-empty.pth": archive(),
    "zip-no-tensors.pth": archive(**{"archive/data.pkl": b"", "archive/version": b"3\n"}),
    "zip-bad-pickle.pth": archive(**{"archive/data.pkl": b"\x80\x02a", "archive/version": b"3"}),
    "legacy-half.pth": saved(SOME, legacy=True)[:-50],
    "number.pth": saved(3),
    "list.pth": saved([torch.zeros(1)]),
    "tensor.pth": saved(torch.zeros(3)),
    "none.pth": saved(None),
    "no-weights.pth": saved({}),
    "no-model.pth": saved({"model": {}}),
    "model-number.pth": saved({"model": 3}),
    "model-list.pth": saved({"model": [torch.zeros(1)]}),
    "model-none.pth": saved({"model": None}),
    "numbered.pth": saved({1: torch.zeros(1)}),
    "model-numbered.pth": saved({"model": {1: torch.zeros(1)}}),
    "values-text.pth": saved({"model": {WEIGHT: "text"}}),
    "values-none.pth": saved({"model": {WEIGHT: None}}),
    "values-number.pth": saved({"model": {WEIGHT: 3}}),
    "values-list.pth": saved({"model": {WEIGHT: [1.0]}}),
    "other-keys.pth": saved({"model": {"encoder.weight": torch.zeros(2)}}),
    "other-shapes.pth": saved(SOME),
    "torchvision.pth": saved(dict.fromkeys(["layer1.0.conv1.weight", "fc.bias"], torch.ones(1))),
    "module.pth": saved(torch.nn.Linear(1, 1)),
    "hostile.pth": saved({"model": Burglar(RAN)}),
    "hostile-legacy.pth": saved({"model": Burglar(RAN)}, legacy=True),
    "hostile.pkl": pickle.dumps({"model": Burglar(RAN)}),
    "system.pkl": f"cos\nsystem\n(S'touch {RAN}'\ntR.".encode(),
    "eval.pkl": b"c__builtin__\neval\n(S'1'\ntR.",
    "getattr.pkl": b"c__builtin__\ngetattr\n.",
    "bomb.pkl": b"(" * 100_000,
    "recursive.pkl": b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",
    "huge-length.pkl": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0f" + b"abc",
    "empty.pkl": b"",
    "text.pkl": "hello\n",
    "number.pkl": pickle.dumps(3),
    "list.pkl": pickle.dumps([1]),
    "numbered.pkl": pickle.dumps({1: np.zeros(1)}),
    "values-text.pkl": pickle.dumps({"blobs": {"conv1_w": "text"}}),
    "half.pkl": pickle.dumps({"blobs": {"conv1_w": np.zeros(1000)}})[:500],
    "other-keys.pkl": pickle.dumps({"blobs": {"nonesuch_w": np.zeros(3, np.float32)}}),
    "empty.safetensors": b"",
    "text.safetensors": "hello there, this is text\n",
    "half.safetensors": (50).to_bytes(8, "little") + b'{"a": {"dtype": "F32"',
    "huge-header.safetensors": b"\xff" * 8 + b"{}",
    "offsets.safetensors": (70).to_bytes(8, "little")
    + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'.ljust(70),
    "dtype.safetensors": (70).to_bytes(8, "little")
    + b'{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}'.ljust(70) + bytes(4),
    "list.safetensors": (2).to_bytes(8, "little") + b"[]",
    "null.safetensors": (4).to_bytes(8, "little") + b"null",
    "empty.pyth": b"",
    "other.pyth": saved({"weights": {"a": torch.zeros(1)}}),
}  # fmt: skip


CONFIG = ("--config-file", "{jobs}/tiny.yaml")


def cases() -> list[Case]:
    """Every file, given to training, evaluation, prediction and conversion in turn."""
    found = []
    for number, (name, content) in enumerate(FILES.items()):
        place = "{here}/" + name
        options = {
            "train_net": (*CONFIG, *_keys(place)),
            "evaluate": (*CONFIG, "--eval-only", *_keys(place)),
            "predict": (*CONFIG, "--weights", place, "--output", "{here}/out", "{jobs}/a.jpg"),
            "convert_checkpoint": (place, "{here}/converted.pth"),
        }
        # All for what may run code; else training and one more, for time.
        others = ("evaluate", "predict", "convert_checkpoint")
        for kind in ("train_net", *(others if "hostile" in name else (others[number % 3],))):
            tool = "train_net" if kind == "evaluate" else kind
            found.append(Case(f"weights-{kind}-{name}", tool, options[kind], name, {name: content}))
    return [*found, *_named_weights()]


def _keys(weights: str) -> tuple[str, ...]:
    return ("OUTPUT_DIR", "{here}/out", "MODEL.WEIGHTS", weights)


def _named_weights() -> list[Case]:
    """The tiny model's weights, which fit, or fit less in a wider model; and bad names."""
    fit, wider = "{jobs}/trained/model_final.pth", ("MODEL.FPN.OUT_CHANNELS", "32")
    of_another = "model_final.pth cannot be loaded: it is of another model"
    return [
        Case(f"weights-{name}", "train_net", (*CONFIG, *arguments), culprit)
        for name, arguments, culprit in (
            ("fit", ("--eval-only", *_keys(fit)), None),
            ("train-wider", (*_keys(fit), *wider), None),
            ("evaluate-wider", ("--eval-only", *_keys(fit), *wider), of_another),
            ("missing", _keys("{here}/none.pth"), "none.pth"),
            ("url", _keys("nonesuch://a.pth"), "nonesuch://a.pth"),
            ("device", _keys("/dev/zero"), "/dev/zero"),
        )
    ]
