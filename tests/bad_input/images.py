"""Images that are damaged, or odd and fine: in training, evaluation and prediction."""

import io
import json

import numpy as np
from bad_input.running import Case
from PIL import Image

SIDE = 64


def encoded(mode: str, form: str, side: int = SIDE, **options) -> bytes:
    """A picture of random pixels."""
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 4), dtype=np.uint8)
    made = {
        "I;16": lambda: Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257),
        "F": lambda: Image.fromarray(pixels[:, :, 0].astype(np.float32)),
        "I": lambda: Image.fromarray(pixels[:, :, 0].astype(np.int32)),
        "P": lambda: Image.fromarray(pixels[:, :, :3]).convert("P", palette=Image.Palette.ADAPTIVE),
        "RGBA": lambda: Image.fromarray(pixels, "RGBA"),
    }
    image = made.get(mode, lambda: Image.fromarray(pixels[:, :, :3]).convert(mode))()
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded("RGB", "JPEG", exif=exif)


JPG, PNG = encoded("RGB", "JPEG"), encoded("RGB", "PNG")
DAMAGED = {
    "empty.jpg": b"",
    "empty.png": b"",
    "half.jpg": JPG[: len(JPG) // 2],
    "half.png": PNG[: len(PNG) // 2],
    "head.jpg": JPG[:30],
    "head.png": PNG[:40],
    "text.jpg": "hello there\n",
    "html.jpg": "<html>404</html>\n",
    "zeros.jpg": bytes(5000),
    "random.png": np.random.default_rng(0).bytes(5000),
    "broken-chunk.png": PNG[:60] + bytes(200) + PNG[260:],
    "broken-header.png": PNG[:12] + b"XXXX" + PNG[16:],
    "folder.jpg": None,
}
# Fine to predict on, but not what the dataset says.
OF_ANOTHER_SIZE = {"small.png": encoded("RGB", "PNG", 32), "large.jpg": encoded("RGB", "JPEG", 100)}
FINE = {
    "rgb.jpg": JPG,
    "rgb.png": PNG,
    "rgb.bmp": encoded("RGB", "BMP"),
    "rgb.webp": encoded("RGB", "WEBP"),
    "png-named.jpg": PNG,
    "grey.jpg": encoded("L", "JPEG"),
    "grey.png": encoded("L", "PNG"),
    "bit.png": encoded("1", "PNG"),
    "cmyk.jpg": encoded("CMYK", "JPEG"),
    "alpha.png": encoded("RGBA", "PNG"),
    "grey-alpha.png": encoded("LA", "PNG"),
    "palette.png": encoded("P", "PNG"),
    "palette.gif": encoded("P", "GIF"),
    "16-bit.png": encoded("I;16", "PNG"),
    "rotated.jpg": rotated(),
    "progressive.jpg": encoded("RGB", "JPEG", progressive=True),
    "one-pixel.png": encoded("RGB", "PNG", 1),
}
# Fine to predict on, where they are scaled; Detectron2's training would clip them.
DEEP = ("16-bit.png",)


def dataset(name: str) -> str:
    """A COCO json of one image."""
    side = 1 if name.startswith("one-pixel") else SIDE
    box = [0, 0, side, side] if side == 1 else [5, 5, 30, 30]
    objects = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 9, "iscrowd": 0}]
    content = {
        "images": [{"id": 1, "file_name": name, "width": side, "height": side}],
        "annotations": objects,
        "categories": [{"id": 1, "name": "thing"}],
    }
    return json.dumps(content)


def training(name: str, content: object, culprit: str | None, *, evaluate: bool) -> Case:
    """Train, or evaluate, on the one image."""
    entries = "[['one', '{here}/one.json', '{here}/images']]"
    datasets = ("('one',)", "()") if not evaluate else ("()", "('one',)")
    arguments = (
        *("--config-file", "{jobs}/tiny.yaml", *(["--eval-only"] if evaluate else [])),
        *("OUTPUT_DIR", "{here}/out", "DATASETS.REGISTER", entries),
        *("DATASETS.TRAIN", datasets[0], "DATASETS.TEST", datasets[1]),
        *("SOLVER.IMS_PER_BATCH", "1", "SOLVER.MAX_ITER", "1"),
    )
    kind = "evaluate" if evaluate else "train"
    files = {"one.json": dataset(name), f"images/{name}": content}
    return Case(f"image-{kind}-{name}", "train_net", arguments, culprit, files)


def prediction(name: str, content: object, culprit: str | None) -> Case:
    weights = ("--weights", "{jobs}/trained/model_final.pth")
    arguments = ("--config-file", "{jobs}/tiny.yaml", *weights, "--output", "{here}/out")
    files = {f"images/{name}": content}
    arguments = (*arguments, "{here}/images/" + name)
    return Case(f"image-predict-{name}", "predict", arguments, culprit, files)


def cases() -> list[Case]:
    found = []
    for name, content in (DAMAGED | OF_ANOTHER_SIZE).items():
        found += [training(name, content, name, evaluate=e) for e in (False, True)]
    for name, content in FINE.items():
        culprit = name if name in DEEP else None
        found += [training(name, content, culprit, evaluate=e) for e in (False, True)]
    found += [prediction(name, content, name) for name, content in DAMAGED.items()]
    found += [prediction(name, content, None) for name, content in (OF_ANOTHER_SIZE | FINE).items()]
    floats = encoded("F", "TIFF")
    found += [prediction("float.tiff", floats, "float.tiff")]
    found += [training("float.tiff", floats, "float.tiff", evaluate=False)]
    missing = training("gone.jpg", JPG, "gone.jpg", evaluate=False)
    del missing.files["images/gone.jpg"]
    return [*found, missing]
