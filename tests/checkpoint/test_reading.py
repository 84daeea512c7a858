"""A checkpoint is read, and none of it is run."""

import json
import os
import pickle
import tempfile
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from focal_retina.checkpoint.reading import damage, read_checkpoint
from focal_retina.errors import UserError


@pytest.mark.parametrize("protocol", [2, 4])
def test_arrays_and_plain_containers_of_a_pickle_are_read(protocol, tmp_path):
    content = {
        "blobs": {"w": np.arange(6, dtype="f4").reshape(2, 3), "lr": np.float32(0.5)},
        "cfg": "text",
        "more": [1, (2.0, None), {3}],
    }
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_checkpoint(str(tmp_path / "model.pkl"))
    weights = content.pop("blobs")
    assert np.array_equal(found["model"].pop("w"), weights.pop("w"))
    assert found == {**content, "model": weights}


@pytest.mark.parametrize("suffix", ["pkl", "pth", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all"], ids=["empty", "text"])
def test_what_is_no_checkpoint_is_an_error_that_names_the_file(suffix, content, tmp_path):
    file = tmp_path / f"model.{suffix}"
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"model\.{suffix} is not a checkpoint"):
        read_checkpoint(str(file))


def torch_file(content, path):
    torch.save(content, path)
    return str(path)


class Hiding:
    """An ordered dict whose attributes hide its methods, when it is read."""

    def __init__(self, metadata=None, **items):
        self.state, self.content = {"_metadata": metadata or {}}, items
        self.state |= dict.fromkeys(("items", "keys", "get", "pop", "values"), 5)

    def __reduce__(self):
        return OrderedDict, (), self.state, None, iter(self.content.items())


def test_attributes_of_a_file_hide_no_methods(tmp_path):
    weight = nn.Parameter(torch.ones(2))
    weight.numel = weight.to = weight.shape_ = 5
    content = Hiding(model=Hiding(a=weight), iteration=3)
    found = read_checkpoint(torch_file(content, tmp_path / "a.pth"))
    assert found["iteration"] == found.get("iteration") == 3
    assert [(name, x.numel()) for name, x in found["model"].items()] == [("a", 2)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "weight",
    [
        torch.eye(3).to_sparse(),
        torch.eye(3).to_sparse_csr(),
        torch.ones(2, device="meta"),
        torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        torch.ones(2, dtype=torch.complex64),
        torch.ones(1).expand(3_000_000_000),
        torch.ones(2).to(torch.float8_e5m2),
        "text",
        None,
        [1.0, [2.0]],
    ],
    ids=str,
)
def test_a_weight_that_is_no_dense_tensor_of_numbers_is_refused(weight, tmp_path):
    path = torch_file({"model": {"conv1": weight}}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth is not a checkpoint: its (conv1|weights)"):
        read_checkpoint(path)


@pytest.mark.parametrize("metadata", [3, {1: {}}, {"a": 3}, {"a": {"version": "x"}}])
def test_malformed_versions_of_modules_are_refused(metadata, tmp_path):
    path = torch_file({"model": Hiding(metadata, a=torch.ones(1))}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="versions of its modules are malformed"):
        read_checkpoint(path)


def safetensors_file(header, numbers=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + numbers


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


MALFORMED_SAFETENSORS = {
    "shape beyond the numbers": safetensors_file({"a": entry([1 << 40], 0, 0)}),
    "huge shape of nothing": safetensors_file({"a": entry([0, 1 << 60, 1 << 60], 0, 0)}),
    "negative shape": safetensors_file({"a": entry([-1], 0, 4)}, bytes(4)),
    "negative offset": safetensors_file({"a": entry([1], -4, 0)}, bytes(4)),
    "backwards": safetensors_file({"a": entry([1], 4, 0)}, bytes(4)),
    "overlap": safetensors_file({"a": entry([2], 0, 8), "b": entry([1], 4, 8)}, bytes(8)),
    "gap": safetensors_file({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12)),
    "beyond the end": safetensors_file({"a": entry([2], 0, 8)}, bytes(4)),
    "huge header": safetensors_file({}, length=1 << 63),
    "unknown type": safetensors_file({"a": entry([1], 0, 4, "X32")}, bytes(4)),
    "complex": safetensors_file({"a": entry([1], 0, 8, "C64")}, bytes(8)),
    "no entry": safetensors_file({"a": 3}),
    "empty": safetensors_file({}),
}


@pytest.mark.parametrize("content", MALFORMED_SAFETENSORS.values(), ids=MALFORMED_SAFETENSORS)
def test_malformed_safetensors_are_refused(content, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.safetensors is not a checkpoint: .{10,}"):
        read_checkpoint(str(tmp_path / "a.safetensors"))


def test_whole_numbers_and_floats_of_safetensors_are_read(tmp_path):
    header = {"a": entry([2], 0, 8), "b": entry([1], 8, 16, "I64"), "c": entry([1], 16, 17, "BOOL")}
    numbers = np.array([1, 2], "f4").tobytes() + bytes(8) + b"\1"
    (tmp_path / "a.safetensors").write_bytes(safetensors_file(header, numbers))
    found = read_checkpoint(str(tmp_path / "a.safetensors"))
    assert [x.tolist() for x in found["model"].values()] == [[1, 2], [0], [True]]


def test_a_zip_file_that_unpacks_to_much_more_than_itself_is_refused(tmp_path):
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as stored,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    with pytest.raises(UserError, match=r"b\.pth is not a checkpoint: its parts are 8 times"):
        read_checkpoint(str(tmp_path / "b.pth"))


@pytest.mark.parametrize("suffix", ["pth", "pkl", "safetensors"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda x: os.symlink("/dev/zero", x)])
def test_only_regular_files_are_opened(suffix, make, tmp_path):
    path = str(tmp_path / f"a.{suffix}")
    make(path)
    with pytest.raises(UserError, match=rf"a\.{suffix} is no regular file"):
        read_checkpoint(path)
    assert damage(path) == "is no regular file"


def test_the_reason_of_any_junk_is_one_plain_line():
    generator, reasons = np.random.default_rng(3), set()
    for i in range(200):
        start = [b"", b"\x80\x02", b"PK\x03\x04", b"\x80\x02}q\x01"][i % 4]
        with tempfile.NamedTemporaryFile(suffix=".pth") as file:
            file.write(start + generator.bytes(i))
            file.flush()
            reasons.add(damage(file.name))
    assert None not in reasons
    assert all(10 < len(x) < 120 and "weights_only" not in x and "\n" not in x for x in reasons)
