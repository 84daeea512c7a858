"""State that differs between the processes of a run: statistics of batch norm, running means."""

import hashlib
from collections.abc import Iterator

import torch
from detectron2.utils import comm

from focal_retina.errors import require

# Nested keys of a value that is no dict.
Path = tuple[str | int, ...]


def gather_differences(state: dict) -> dict[int, list[tuple[Path, object]]]:
    """Return, in the main process, how the state of each other process differs from its own.

    All processes must call it, each with nested dicts of tensors and plain data. The result is
    rank -> (path, value) of each difference; a process without any is left out.
    """
    if comm.get_world_size() == 1:
        return {}
    leaves = dict(_leaves(state))
    digests = {path: _digest(leaf) for path, leaf in leaves.items()}
    reference = comm.all_gather(digests if comm.is_main_process() else None)[0]
    differences = [
        (path, leaf.cpu() if isinstance(leaf, torch.Tensor) else leaf)
        for path, leaf in leaves.items()
        if reference.get(path) != digests[path]
    ]
    return {rank: found for rank, found in enumerate(comm.gather(differences)) if found}


def apply_differences(state: dict, differences: list[tuple[Path, object]]) -> None:
    """Turn the main process's state, in place, into that of another; paths are nested."""
    for path, leaf in differences:
        require(len(path) > 1, "a difference of processes", path, "lie within a part of the state")
        node = state
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = leaf


def _leaves(state: dict, prefix: Path = ()) -> Iterator[tuple[Path, object]]:
    for key, value in state.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def _digest(leaf: object) -> tuple:
    if not isinstance(leaf, torch.Tensor):
        return (repr(leaf),)
    numbers = leaf.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return leaf.dtype, leaf.shape, hashlib.sha256(numbers.data).digest()
