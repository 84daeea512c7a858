"""Where two finished runs differ, bit by bit. Measured times are not compared."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch

TIMES = {"time", "data_time", "rank_data_time", "eta_seconds"}
_DETECTIONS = "inference/coco_instances_results.json"


def differences(first: Path, second: Path) -> list[str]:
    """Return a line for each difference between two output folders.

    It compares the names of the checkpoints; the content of the final one (weights, optimizer,
    scheduler, normaliser, seeds, positions, metrics of each process); metrics.json; detections.
    """
    names = [sorted(p.name for p in run.glob("*.pth")) for run in (first, second)]
    found = [] if names[0] == names[1] else [f"checkpoints: {names[0]} and {names[1]}"]
    if not all((run / "model_final.pth").exists() for run in (first, second)):
        return found
    states = [torch.load(run / "model_final.pth", weights_only=True) for run in (first, second)]
    found += [f"model_final.pth: {where}" for where in unequal(*map(without_times, states))]
    lines = [list(_metrics(run / "metrics.json")) for run in (first, second)]
    found += [f"metrics.json: {where}" for where in unequal(*lines)]
    if (first / _DETECTIONS).read_bytes() != (second / _DETECTIONS).read_bytes():
        found.append(f"{_DETECTIONS} differs")
    return found


def unequal(a, b, path: str = "") -> Iterator[str]:
    """Yield the places where two nested data differ in a bit."""
    if type(a) is not type(b):
        yield f"{path}: {type(a).__name__} and {type(b).__name__}"
    elif isinstance(a, dict):
        for key in sorted(a.keys() | b.keys(), key=str):
            if key not in a or key not in b:
                yield f"{path}/{key} is in one only"
            else:
                yield from unequal(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list | tuple):
        if len(a) != len(b):
            yield f"{path}: {len(a)} and {len(b)} entries"
        for i, pair in enumerate(zip(a, b, strict=False)):
            yield from unequal(*pair, f"{path}/{i}")
    elif isinstance(a, torch.Tensor):
        if a.dtype != b.dtype or a.shape != b.shape or _bits(a) != _bits(b):
            yield f"{path}: tensors"
    elif repr(a) != repr(b):
        yield f"{path}: {a!r} and {b!r}"


def _bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def without_times(state: dict) -> dict:
    """Remove measured times, and the size of metrics.json, which holds some; return the state."""
    resume = state["trainer"]["hooks"]["ExactResume"]
    resume["metrics"] = _timeless(resume["metrics"])
    resume["writers"]["ResumableJSONWriter"].pop("size")
    state["ranks"] = {
        f"{rank} {path}": _timeless(leaf) if path[-1] == "metrics" else leaf
        for rank, leaves in state["ranks"].items()
        for path, leaf in leaves
    }
    return state


def _timeless(metrics: list[tuple]) -> list[tuple]:
    return [metric for metric in metrics if metric[0] not in TIMES]


def _metrics(path: Path) -> Iterator[dict]:
    for line in path.read_text().splitlines():
        yield {name: value for name, value in json.loads(line).items() if name not in TIMES}
