"""Weights with something wrong in them convert and load, or end in one sentence."""

import contextlib
import pickle
from random import Random

import numpy as np
import pytest
import torch
from helpers.small_states import CLASSES, SOURCES, checkpoint_of

from focal_retina.checkpoint.checkpointer import FocalCheckpointer
from focal_retina.checkpoint.conversion.sources import convert
from focal_retina.checkpoint.reading import read_checkpoint
from focal_retina.errors import UserError

OPTIONS = {"torchvision": {"background": False}}
# What stands in the place of a weight, a name, a config: of the wrong type, size or rank.
JUNK = [
    *(None, 3, 0.5, True, "text", "a" * 5000, b"bytes", [], {}, [1.0], [[1.0], [2.0, 3.0]]),
    *({"a": {}}, {1: 2}, ("a", "b"), ["a", 3], ["a", "b", "c"], ["c", "a", "b"], [7, 8, 9]),
    *(torch.tensor(1.0), torch.zeros(0), torch.zeros(7), torch.zeros(36, 4), torch.ones(2, 2, 2)),
    *(torch.ones(1).expand(10**10), torch.eye(4).to_sparse(), torch.ones(4, device="meta")),
    *(np.float64(3), np.zeros((0, 3)), np.array(["a"]), np.array([b"b"]), np.zeros(4, ">f8")),
    *("mean=[1]", "std=[0, 0, 0]", "target_stds=[0, 0, 0, 0]", "mean=[a, b]", "mean=[" * 3000),
    *("target_stds=[1, 2, 3, 1e999]", "mean=[-1.5.5, 2, 9" + "9" * 400 + "]"),
]


def without_first(x):
    return x[1:] if x.dim() else x


CHANGES = [
    *(without_first, lambda x: x[None], lambda x: x.flatten(), lambda x: torch.cat([x, x])),
    *(
        lambda x: x.repeat(1, *[2] * x.dim()),
        lambda x: x.flatten()[:0],
        lambda x: x.sum(),
        torch.Tensor.t,
    ),
    *(torch.Tensor.long, torch.Tensor.bool, torch.Tensor.half, torch.Tensor.double),
    *(lambda x: x.to(torch.complex64), lambda x: x.to(torch.float8_e5m2), lambda x: x * np.nan),
    *(lambda x: x.new_full(x.shape, 1e30) * 1e30, torch.nn.Parameter),
]


def changed(value, random):
    """Return a weight with another type, shape or content."""
    if not isinstance(value, torch.Tensor) or random.random() < 0.4:
        return random.choice(JUNK)
    # A counter may become anything but what only floating-point numbers can be.
    with contextlib.suppress(RuntimeError, IndexError):
        value = random.choice(CHANGES)(value).clone()
    return value


def mutated(checkpoint, random):
    """Return a checkpoint with one to three things changed, in its weights or beside them."""
    key = next(key for key in ("state_dict", "model", "blobs") if key in checkpoint)
    weights, checkpoint = dict(checkpoint[key]), dict(checkpoint)
    important = [name for name in weights if "cls" in name or "bbox" in name or "conv1" in name]
    for _ in range(random.choice([1, 1, 2, 3])):
        name = random.choice([*weights, *important * 2])
        match random.randrange(8):
            case 0:
                weights.pop(name, None)
            case 1:
                weights[random.choice(["", name + "x", name[1:], "module." + name])] = 1.0
            case 2:
                other = random.choice([*checkpoint, "class_names", "meta", "category_ids"])
                checkpoint[other] = random.choice(JUNK)
            case 3:
                meta = {random.choice(["cfg", "config", "CLASSES"]): random.choice(JUNK)}
                checkpoint["meta"] = random.choice([meta, {"dataset_meta": random.choice(JUNK)}])
            case _:
                old = weights.get(name)
                is_array = isinstance(old, np.ndarray) and old.dtype.kind == "f"
                old = torch.from_numpy(old) if is_array else old
                weights[name] = changed(old, random)
    return checkpoint | ({key: weights} if random.random() < 0.95 else {})


def write(content, path, as_pickle):
    if as_pickle:
        arrays = {k: _arrays(x) if isinstance(x, dict) else x for k, x in content.items()}
        path.write_bytes(pickle.dumps(_arrays(arrays)))
    else:
        torch.save(content, path)


def _arrays(weights):
    """Return the weights as NumPy has them; others become text."""

    def array(x):
        if not isinstance(x, torch.Tensor):
            return x
        try:
            return x.detach()[:1000].numpy() if x.numel() > 10**6 else x.detach().numpy()
        except (RuntimeError, TypeError):
            return str(x)

    return {k: array(x) for k, x in weights.items()}


class Model(torch.nn.Module):
    """A model with weights of these names and shapes, and nothing to compute."""

    num_classes = CLASSES

    def __init__(self, weights):
        super().__init__()
        for name, value in weights.items():
            node, (*path, last) = self, name.split(".")
            for part in path:
                if part not in node._modules:
                    node.add_module(part, torch.nn.Module())
                node = node._modules[part]
            is_counter = last.startswith("running") or last.endswith("tracked")
            add = node.register_buffer if is_counter else node.register_parameter
            add(last, value if is_counter else torch.nn.Parameter(value))


@pytest.fixture(scope="module", params=SOURCES)
def source(request, tmp_path_factory):
    """The name of a source, and a model that its whole checkpoint fits."""
    path = tmp_path_factory.mktemp("whole") / "a.pkl"
    write(checkpoint_of(request.param), path, True)
    checkpoint = read_checkpoint(str(path))
    weights = convert(checkpoint, **OPTIONS.get(request.param, {})).weights
    return request.param, Model(weights)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(5))
def test_mutated_weights_convert_and_load_or_end_in_one_sentence(source, seed, tmp_path):
    (name, model), random = source, Random(f"{source[0]} {seed}")
    outcomes = set()
    for i in range(50):
        path = tmp_path / random.choice(["a.pth", "a.pkl"])
        write(mutated(checkpoint_of(name), random), path, path.suffix == ".pkl")
        for work in (converted_and_loaded, loaded):
            try:
                work(path, name, model, random)
                outcomes.add("fine")
            except UserError as error:
                assert 10 < len(str(error)) < 1000 and "\n" not in str(error)
                outcomes.add("sentence")
            except Exception as error:
                raise AssertionError(f"{work.__name__} of the file {i} of seed {seed}") from error
    assert outcomes == {"fine", "sentence"}


def converted_and_loaded(path, name, model, random):
    conversion = convert(read_checkpoint(str(path)), name, **OPTIONS.get(name, {}))
    names = conversion.class_names
    checkpointer = FocalCheckpointer(model, class_names=names, complete=random.random() < 0.5)
    checkpointer.load_model({"model": conversion.weights, "matching_heuristics": False})


def loaded(path, name, model, random):
    names = random.choice([None, ["a", "b", "c"], ["c", "b", "a"], ["x"]])
    checkpointer = FocalCheckpointer(model, class_names=names, complete=random.random() < 0.5)
    checkpointer.load(random.choice([str(path), f"{path}?matching_heuristics=True"]))
