"""A checkpoint is read, and none of it is run."""

import pickle

import numpy as np
import pytest

from focal_retina.checkpoint.reading import read_checkpoint
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
    assert np.array_equal(found["blobs"].pop("w"), content["blobs"].pop("w"))
    assert found == content


@pytest.mark.parametrize("suffix", ["pkl", "pth", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all"], ids=["empty", "text"])
def test_what_is_no_checkpoint_is_an_error_that_names_the_file(suffix, content, tmp_path):
    file = tmp_path / f"model.{suffix}"
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"model\.{suffix} is not a checkpoint"):
        read_checkpoint(str(file))
