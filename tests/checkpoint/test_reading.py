"""A checkpoint is read, and none of it is run."""

import pickle

import numpy as np
import pytest
from helpers.foreign_models import Burglar, write

from focal_retina.checkpoint.reading import read_checkpoint
from focal_retina.errors import UserError


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_a_file_that_runs_code_is_refused_by_the_name_of_what_it_tried(suffix, tmp_path):
    source, witness = tmp_path / f"model{suffix}", tmp_path / "witness"
    with pytest.raises(UserError, match=r"model\.\w+ is refused: it tried to use posix\.system"):
        read_checkpoint(write({"model": Burglar(witness)}, source))
    assert not witness.exists()
    pickle.loads(pickle.dumps(Burglar(witness)))
    assert witness.exists()  # it would have


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
