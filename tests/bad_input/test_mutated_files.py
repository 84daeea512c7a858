"""A damaged file is used or ends in one sentence, in bounded time and memory: never a traceback.

The suite tries 40 files of each kind, and with ``--all-bad-input`` 1,000.
"""

import json
import pickle
import zlib
from functools import partial
from random import Random

import pytest
import torch
from bad_input.mutations import mutated, mutated_chunk, mutated_parts
from bad_input.running import LONGEST_SENTENCE, job_on, run_tool
from helpers.limited_process import failure
from helpers.small_datasets import coco_content, write_dataset
from helpers.tiny_jobs import catalogs_restored, write_jobs, write_random_weights
from PIL import Image

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.engine import job as job_of
from focal_retina.errors import UserError

pytestmark = pytest.mark.slow

XML = """<?xml version="1.0" encoding="utf-8"?>
<annotation><folder>a</folder><filename>0.png</filename>
<size><width>64</width><height>48</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult><truncated>1</truncated>
<bndbox><xmin>4</xmin><ymin>5</ymin><xmax>24</xmax><ymax>15</ymax></bndbox></object>
<object><name>dog</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>29</xmax><ymax>19</ymax></bndbox>
</object></annotation>
"""
FORMATS = ["png", "jpeg", "gif", "bmp", "tiff", "webp"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of every kind that are whole, and what uses them."""
    folder = write_jobs(tmp_path_factory.mktemp("whole"))
    write_dataset(folder)
    write_weights(folder, torch.load(write_random_weights(folder / "tiny.yaml"))["model"])
    voc = folder / "voc"
    for name, content in {"Annotations/a.xml": XML, "ImageSets/Main/all.txt": "a\n"}.items():
        (voc / name).parent.mkdir(parents=True)
        (voc / name).write_text(content)
    (voc / "JPEGImages").mkdir()
    picture = Image.open(folder / "images" / "0.png")
    picture.save(voc / "JPEGImages" / "a.png")
    for kind in FORMATS:
        picture.save(folder / f"picture.{kind}")
    return folder


def write_weights(folder, weights):
    numpy = {name: weight.numpy() for name, weight in weights.items()}
    torch.save({"model": weights, "class_names": ["a", "b"]}, folder / "zip.pth")
    torch.save({"model": weights}, folder / "old.pth", _use_new_zipfile_serialization=False)
    (folder / "numpy.pkl").write_bytes(pickle.dumps({"model": numpy}, protocol=4))
    (folder / "blobs.pkl").write_bytes(pickle.dumps({"blobs": numpy}, protocol=2))
    save_safetensors(weights, folder / "a.safetensors")


def save_safetensors(weights, path):
    header, numbers = {}, b""
    for name, weight in weights.items():
        start, numbers = len(numbers), numbers + weight.float().numpy().tobytes()
        offsets = [start, len(numbers)]
        header[name] = {"dtype": "F32", "shape": [*weight.shape], "data_offsets": offsets}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + numbers)


def damaged(path, random):
    """Return the content of a file with some damage."""
    content = path.read_bytes()
    if path.name == "zip.pth" and random.random() < 0.8:
        return mutated_parts(content, random)
    if path.suffix == ".png" and random.random() < 0.7:
        return mutated_chunk(content, random)
    if path.suffix in (".pkl", ".safetensors") and random.random() < 0.7:
        start = random.randrange(300)  # where lengths, types and shapes are
        end = start + 200
        return content[:start] + mutated(content[start:end], random, False) + content[end:]
    return mutated(content, random, path.suffix in (".yaml", ".json", ".xml"))


def use_weights(path, folder):
    """Load into a model as a training does, and as predict does; convert."""
    with catalogs_restored():
        settings = job_of.load(str(folder / "tiny.yaml"), eval_only=True)
        model = settings.parts.model()
    for complete in (False, True):
        try:
            FocalCheckpointer(model, complete=complete).load(str(path), checkpointables=[])
        except UserError as error:
            assert str(error)
    use("convert_checkpoint", path, path.with_name("converted.pth"))


def use_config(path, folder):
    use(
        "train_net",
        "--config-file",
        path,
        "OUTPUT_DIR",
        path.with_name("out"),
        "SOLVER.MAX_ITER",
        1,
    )


def use_json(path, folder):
    use("check_dataset", "--json", path, "--images", folder / "images")
    train_on(path, folder, f"'{path}', '{folder}/images'")


def use_xml(path, folder):
    target = folder / "voc" / "Annotations" / "a.xml"
    target.write_bytes(path.read_bytes())
    train_on(path, folder, f"'voc', '{folder}/voc', 'all'")


def use_picture(path, folder):
    content = coco_content()
    content["images"] = [{**content["images"][0], "file_name": path.name}]
    content["annotations"] = content["annotations"][:2]
    dataset = path.with_name("one.json")
    dataset.write_text(json.dumps(content))
    use("check_dataset", "--json", dataset, "--images", path.parent, "--decode")
    train_on(path, folder, f"'{dataset}', '{path.parent}'")


def train_on(path, folder, entry):
    arguments = [x.format(jobs=folder, here=path.parent) for x in job_on(entry, test=True)]
    use("train_net", *arguments)


def use(tool, *arguments):
    """Run a tool; assert that it ends well or in one sentence."""
    outcome = run_tool(tool, [*map(str, arguments)])
    assert "Traceback" not in outcome.said, outcome.said
    assert outcome.status in {"check_dataset": (0, 1, 2), "train_net": (0, 2, 3)}.get(tool, (0, 2))
    if outcome.status > 1:
        assert len(outcome.errors.strip().rpartition("\n")[2]) <= LONGEST_SENTENCE


KINDS = {
    "weights": (use_weights, ["zip.pth", "old.pth", "numpy.pkl", "blobs.pkl", "a.safetensors"]),
    "config": (use_config, ["tiny.yaml"]),
    "json": (use_json, ["a.json"]),
    "xml": (use_xml, ["voc/Annotations/a.xml"]),
    "picture": (use_picture, [f"picture.{kind}" for kind in FORMATS]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_used_or_ends_in_one_sentence(kind, folder, tmp_path, pytestconfig):
    use_it, names = KINDS[kind]
    number = 1000 if pytestconfig.getoption("--all-bad-input") else 40
    failures = {}
    whole = {name: (folder / name).read_bytes() for name in names}
    for i in range(number):
        random = Random(zlib.crc32(f"{kind} {i}".encode()))
        name = names[i % len(names)]
        (folder / name).write_bytes(whole[name])
        path = tmp_path / f"{i}-{(folder / name).name}"
        path.write_bytes(damaged(folder / name, random))
        why = failure(partial(use_it, path, folder), tmp_path / "log.txt")
        if why is None:
            path.unlink()
        else:
            failures[path.name] = why
    assert not failures, "\n\n".join(f"{name}: {why}" for name, why in failures.items())
