"""Whatever the input, there is a sentence or a result: random values, overrides and bytes."""

import io
import os

import pytest
import torch
import yaml
from bad_input import config_values
from helpers.tiny_jobs import catalogs_restored, write_jobs
from hypothesis import given
from hypothesis import strategies as st

from focal_retina.checkpoint.reading import read_checkpoint
from focal_retina.engine import job as job_of
from focal_retina.errors import UserError
from focal_retina.settings.yaml_config import load_yaml

pytestmark = pytest.mark.slow

DEFAULTS = config_values.defaults()
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 10**30])
TEXTS = st.text(max_size=20) | st.sampled_from(["", "GN", "c5", "(1, 2)", "[", "{}", "None", "1e5"])
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(LEAVES, lambda x: st.lists(x, max_size=5), max_leaves=8) | st.dictionaries(
    TEXTS, LEAVES, max_size=2
)
WHOLE = io.BytesIO()
torch.save({"model": {"a": torch.zeros(20), "b": torch.ones(3, 3)}}, WHOLE)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return write_jobs(tmp_path_factory.mktemp("jobs")) / "tiny.yaml"


def load(config_file, opts=()):
    """Load a config as train_net.py does; return the sentence that it ends in, or None."""
    with catalogs_restored():
        try:
            job_of.load(str(config_file), opts)
        except UserError as error:
            return str(error)


@pytest.mark.parametrize("node", config_values.NODES)
@given(data=st.data())
def test_a_random_value_of_a_key_is_taken_or_the_sentence_names_the_key(node, data, job):
    key = data.draw(st.sampled_from(sorted(key for key in DEFAULTS if key.startswith(node))))
    case = config_values.yaml_case("random", key, data.draw(VALUES), key)
    config_file = job.parent / "random.yaml"
    config_file.write_text(case.files["a.yaml"].replace("{jobs}", str(job.parent)))
    sentence = load(config_file)
    assert sentence is None or key.split(".")[-1] in sentence or "random.yaml" in sentence


@given(st.lists(st.sampled_from(sorted(DEFAULTS)) | TEXTS, max_size=6))
def test_random_overrides_are_taken_or_end_in_a_sentence(job, opts):
    sentence = load(job, opts)
    assert sentence is None or len(sentence) > 10


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | VALUES.map(yaml.safe_dump))
def test_a_random_file_is_a_config_or_ends_in_a_sentence_that_names_it(tmp_path_factory, content):
    path = os.path.join(tmp_path_factory.getbasetemp(), "random.yaml")
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    try:
        load_yaml(path)
    except UserError as error:
        assert path in str(error)


@given(
    st.integers(0, len(WHOLE.getvalue()) - 1),
    st.binary(max_size=8),
    st.sampled_from(["a.pth", "a.pkl", "a.safetensors"]),
)
def test_damaged_weights_are_read_or_named(tmp_path_factory, place, replacement, name):
    content = WHOLE.getvalue()
    path = os.path.join(tmp_path_factory.getbasetemp(), name)
    with open(path, "wb") as file:
        file.write(content[:place] + replacement + content[place + len(replacement) + 1 :])
    try:
        assert isinstance(read_checkpoint(path), dict)
    except UserError as error:
        assert path in str(error)
