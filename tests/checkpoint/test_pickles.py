"""A .pkl gives arrays and plain containers; nothing else of it happens, whatever its opcodes."""

import io
import pickle
import tracemalloc
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch

from focal_retina.checkpoint.reading import read_checkpoint
from focal_retina.errors import UserError

ARRAYS = {
    "fortran": np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)),
    "turned": np.arange(24, dtype="f2").reshape(2, 3, 4).transpose(2, 0, 1),
    "big-endian": np.array([1.5, -2], ">f8"),
    "empty": np.zeros((0, 3), "f4"),
    "scalar": np.float32(0.25),
    "counter": np.array(7),
}


def read(folder, content, name="a.pkl"):
    (folder / name).write_bytes(content)
    return read_checkpoint(str(folder / name))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_and_kind_of_array_is_read(protocol, tmp_path):
    rest = {"set": {1, "a"}, "bytes": [b"", b"\xff"], "text": np.array(["é", "ab"]), "n": (1, None)}
    content = {"blobs": OrderedDict(ARRAYS), **rest}
    found = read(tmp_path, pickle.dumps(content, protocol=protocol))
    for name, array in ARRAYS.items():
        assert np.array_equal(found["model"][name].numpy(), array), name
    assert np.array_equal(found.pop("text"), rest.pop("text"))
    assert {name: found[name] for name in rest} == rest


# conv_w = [1, 2], as Python 2 and an old NumPy wrote it.
PYTHON_2 = (
    b"\x80\x02}q\x01U\x06conv_wq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\n"
    b"q\x04K\x00\x85q\x05U\x01bq\x06\x87q\x07Rq\x08(K\x01K\x02\x85q\tcnumpy\ndtype\nq\nU\x02f4q\x0b"
    b"K\x00K\x01\x87q\x0cRq\r(K\x03U\x01<q\x0eNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0fb"
    b"\x89U\x08\x00\x00\x80?\x00\x00\x00@q\x10tq\x11bs."
)


def test_a_file_of_python_2_is_read(tmp_path):
    assert read(tmp_path, PYTHON_2)["model"]["conv_w"].tolist() == [1, 2]


def test_the_versions_of_modules_stay_beside_the_weights(tmp_path):
    weights = OrderedDict(a=np.ones(1))
    weights._metadata = OrderedDict({"norm": {"version": 2}})
    content = pickle.dumps({"model": weights, "__author__": "me"})
    assert read(tmp_path, content)["model"]._metadata == {"norm": {"version": 2}}


NESTED = b")" + b"2\x86" * 100  # a tuple of two times a tuple of two times ...
DTYPE, LENGTH = b"\x80\x02cnumpy\ndtype\n(", (1 << 40).to_bytes(8, "little")
HOSTILE = {
    "dtype of objects": DTYPE + b"U\x02O8K\x00K\x01tR.",
    "dtype of raw bytes": DTYPE + b"U\x03V99K\x00K\x01tR.",
    "fields": DTYPE + b"U\x02f4K\x00K\x01tR(K\x03U\x01|N(U\x01at}NJ\xff\xff\xff\xffK\x00tb.",
    "new object": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "state of a function": b"\x80\x02c_codecs\nencode\n}U\x0c__defaults__(U\x01atsb.",
    "shape beyond the numbers": PYTHON_2.replace(b"K\x01K\x02\x85q\t", b"K\x01K\x7f\x85q\t"),
    "negative shape": PYTHON_2.replace(b"K\x01K\x02\x85q\t", b"K\x01J\xff\xff\xff\xff\x85q\t"),
    "more numbers than a file has": b"\x80\x04\x8e" + LENGTH + b"a.",
    "more bytes than a file has": b"\x80\x05\x96" + LENGTH + b"a.",
    "memo": b"\x80\x02]r\xff\xff\xff\x7f.",
    "key": b"\x80\x02}" + NESTED + b"K\x01s.",
    "keys": b"(" + NESTED + b"K\x01d.",
    "set": b"\x80\x02c__builtin__\nset\n]" + NESTED + b"a\x85R.",
    "set of protocol 4": b"\x80\x04\x8f(" + NESTED + b"\x90.",
    "frozen set": b"\x80\x04(" + NESTED + b"\x91.",
    "ordered dict": b"\x80\x02ccollections\nOrderedDict\n]" + NESTED + b"K\x01\x86a\x85R.",
    "objects": pickle.dumps({"a": np.array([None, 1])}),
    "dates": pickle.dumps({"a": np.array(["2020-01-01"], "M8[D]")}),
    "texts": pickle.dumps({"a": np.array(["x"])}),
    "ragged": pickle.dumps({"blobs": {"a": [[1.0], [2.0, 3.0]]}}),
    "nothing": pickle.dumps({}),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_any_other_opcode_or_size_is_refused_in_no_more_memory_than_the_file(content, tmp_path):
    tracemalloc.start()
    with pytest.raises(UserError, match=r"a\.pkl is (refused|not a checkpoint): .{10,}"):
        read(tmp_path, content)
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


def test_one_array_under_many_names_takes_its_memory_once_or_is_refused(tmp_path):
    array, buffer = np.zeros(100_000), io.BytesIO()
    pickle.dump({f"a{i}": array for i in range(5)}, buffer)
    assert len(read(tmp_path, buffer.getvalue())["model"]) == 5
    with pytest.raises(UserError, match="larger than"):
        read(tmp_path, pickle.dumps({f"a{i}": array for i in range(50)}))


def zipped(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", content)
        archive.writestr("a/version", "3\n")
    return buffer.getvalue()


def legacy(content):
    return b"".join(
        (*(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {})), content, b"\x80\x02].")
    )


# What repeats a long text, or is many objects, or takes a key that is long to hash.
TEXT = b"\x80\x02X" + (2**18).to_bytes(4, "little") + b"a" * 2**18 + b"q\x00]("
COPIES = {
    "encode": TEXT + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 50 + b"e\x86.",
    "many objects": b"\x80\x02](" + b"}" * 2**21 + b"e.",
    "key": b"\x80\x02}(K\x01\x85q\x00" + b"h\x00\x86q\x00" * 60 + b"K\x01u.",
}


@pytest.mark.parametrize("kind", ["pkl", "pth", "legacy.pth"])
@pytest.mark.parametrize("content", COPIES.values(), ids=COPIES)
def test_the_size_of_a_file_bounds_what_reading_it_makes(content, kind, tmp_path):
    wrap = {"pkl": bytes, "pth": zipped, "legacy.pth": legacy}[kind]
    with pytest.raises(UserError, match=r"is not a checkpoint: .{10,}UnpicklingError"):
        read(tmp_path, wrap(content), f"a.{kind}")


def test_a_frame_of_a_pickle_hides_no_objects(tmp_path):
    content = b")" * 2**21 + b"."
    with pytest.raises(UserError, match="UnpicklingError"):
        read(tmp_path, b"\x80\x04\x95" + len(content).to_bytes(8, "little") + content)


@pytest.mark.parametrize("name", ["DATA.PKL", "data.pkl"])  # PyTorch takes either
def test_bytes_of_any_size_are_refused(name, tmp_path):
    content = zipped(b"\x80\x02}U\x01acbuiltins\nbytearray\nJ\x00\x00\x00\x20\x85Rs.")
    with pytest.raises(UserError, match="tried to use builtins.bytearray"):
        read(tmp_path, content.replace(b"data.pkl", name.encode()), "a.pth")


@pytest.mark.parametrize("is_zip", [True, False])
def test_what_a_training_saves_is_read(is_zip, tmp_path):
    weights = {f"w{i}": torch.full((2,), float(i), dtype=torch.bfloat16) for i in range(300)}
    rest = {"milestones": Counter([3, 5]), "of": {(1, 2): b"x", None: 1j}, "set": {1, "a"}}
    rest |= {"size": torch.Size([2]), "type": torch.half, "device": torch.device("cpu")}
    torch.save(
        {"model": weights, **rest}, tmp_path / "a.pth", _use_new_zipfile_serialization=is_zip
    )
    found = read_checkpoint(str(tmp_path / "a.pth"))
    assert all(torch.equal(found["model"][name], x) for name, x in weights.items())
    assert {key: found[key] for key in rest} == rest
