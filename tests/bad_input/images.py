"""Images that are damaged, or odd and fine: in training, evaluation and prediction."""

import io
import json

import numpy as np
from bad_input.running import Case, job_on
from PIL import Image

SIDE = 64


def encoded(mode: str, form: str, side: int = SIDE, **options) -> bytes:
    """A picture of random pixels."""
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 4), dtype=np.uint8)
    made = {
        "I;16": lambda: Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257),
        "F": lambda: Image.fromarray(pixels[:, :, 0].astype(np.float32)),
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
    "rotated.jpg": rotated(),
    "progressive.jpg": encoded("RGB", "JPEG", progressive=True),
    "one-pixel.png": encoded("RGB", "PNG", 1),
    "16-bit.png": encoded("I;16", "PNG"),
}


def coco(*names: str, side: int = SIDE) -> dict:
    """The content of a COCO json: images with one object each."""
    size = {"width": side, "height": side}
    box = [0, 0, 1, 1] if side == 1 else [5, 5, 30, 30]
    thing = {"category_id": 1, "bbox": box, "area": 900, "iscrowd": 0}
    return {
        "images": [{"id": i, "file_name": name, **size} for i, name in enumerate(names, 1)],
        "annotations": [{"id": i, "image_id": i, **thing} for i, _ in enumerate(names, 1)],
        "categories": [{"id": 1, "name": "thing"}],
    }


def training(name: str, content: object, culprit: str | None, *, evaluate: bool = False) -> Case:
    """Train, or evaluate, on the one image."""
    arguments = job_on("'{here}/one.json', '{here}/images'", train=not evaluate, test=evaluate)
    side = 1 if name.startswith("one-pixel") else SIDE
    files = {"one.json": json.dumps(coco(name, side=side)), f"images/{name}": content}
    kind = "evaluate" if evaluate else "train"
    return Case(f"image-{kind}-{name}", "train_net", arguments, culprit, files)


def prediction(name: str, content: object, culprit: str | None) -> Case:
    """Predict on the one image, which the status 1 says cannot be read."""
    weights = ("--weights", "{jobs}/trained/model_final.pth", "--output", "{here}/out")
    arguments = ("--config-file", "{jobs}/tiny.yaml", *weights, "{here}/images/" + name)
    files = {f"images/{name}": content}
    return Case(f"image-predict-{name}", "predict", arguments, culprit, files, status=1)


def cases() -> list[Case]:
    every = DAMAGED | OF_ANOTHER_SIZE | FINE
    found = [prediction(name, x, name if name in DAMAGED else None) for name, x in every.items()]
    for name, content in every.items():
        culprit = None if name in FINE else name
        found += [training(name, content, culprit, evaluate=e) for e in (False, True)]
    for make in (training, prediction):
        found.append(make("float.tiff", encoded("F", "TIFF"), "float.tiff"))
    missing = training("gone.jpg", JPG, "gone.jpg")
    del missing.files["images/gone.jpg"]
    return [*found, missing]
