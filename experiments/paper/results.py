"""What a finished job leaves: result.json and, for COCO test-dev, the archive to submit."""

import json
import math
import os
import shlex
import subprocess
import zipfile
from pathlib import Path

import torch

from experiments.machine import describe_machine
from experiments.paper.jobs import TRAIN_NET, Job
from focal_retina.errors import TrainingError, UserError
from focal_retina.files import write_atomically

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_NUMBER = int | float | None
_TEXTS = dict.fromkeys(("row", "status", "commit", "reason", "submission"), str)
_KINDS = {**_TEXTS, "seed": int, "machine": dict, "metrics": dict | None, "ms": _NUMBER}
_REQUIRED = {"row", "seed", "status", "commit", "machine"}


def finished_result(job: Job, seconds: float) -> dict:
    """Return the result of a job that took so many seconds, and remove its older checkpoints.

    Raises:
        TrainingError: the training has not evaluated.
        OSError: a file that the training writes is not there.
    """
    result = {"status": "done", "seconds": seconds, **_origin(job)}
    detections = job.folder / "inference" / "coco_instances_results.json"
    metrics = _read_metrics(job.folder)
    if metrics is None and not detections.is_file():
        raise TrainingError(f"the training ended without an evaluation (see {job.output_file})")
    if metrics is None:
        result["submission"] = str(_write_submission(job, detections))
    elif json.loads(detections.read_text()) == []:
        metrics = dict.fromkeys(metrics, 0.0)  # for Detectron2 they are not a number
    for checkpoint in job.folder.glob("model_[0-9]*.pth"):
        checkpoint.unlink()  # tens of GB over all jobs; model_final.pth stays
    return result | {"metrics": metrics}


def failed_result(job: Job, seconds: float, reason: str) -> dict:
    """Return the result of a job that failed after so many seconds."""
    return {"status": "failed", "reason": reason, "seconds": seconds, **_origin(job)}


def read_result(folder: Path) -> dict | None:
    """Return the result in a job's folder, None if it has none yet.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / "result.json"
    if not path.exists():
        return None
    try:
        result = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        result = None
    if not _is_result(result):
        raise UserError(f"{path} is damaged: remove it, and its job runs again")
    return result


def _is_result(content: object) -> bool:
    """Return whether a file holds all that the report reads."""
    if not isinstance(content, dict) or not content.keys() >= _REQUIRED:
        return False
    if not all(isinstance(content[key], kind) for key, kind in _KINDS.items() if key in content):
        return False
    metrics = (content.get("metrics") or {}).values()
    return all(isinstance(x, str) for x in content["machine"].values()) and all(
        isinstance(x, _NUMBER) for x in metrics
    )


def write_result(folder: Path, result: dict) -> None:
    """Write the result of a job into its folder."""
    write_atomically(str(folder / "result.json"), json.dumps(result, indent=1).encode())


def _read_metrics(folder: Path) -> dict[str, float | None] | None:
    """Return the metrics of the last evaluation, in percent; None where there was none.

    A metric that is not defined, such as APl without large objects, is None too.
    """
    lines = (folder / "metrics.json").read_text().splitlines()
    evaluations = [line for line in map(json.loads, lines) if "bbox/AP" in line]
    if not evaluations:
        return None
    metrics = {key: evaluations[-1][f"bbox/{key}"] for key in METRICS}
    return {key: None if math.isnan(value) else value for key, value in metrics.items()}


def _write_submission(job: Job, detections: Path) -> Path:
    """Write the archive that the COCO server takes."""
    name = f"detections_test-dev2017_{job.row.id}-seed{job.seed}_results"
    path = job.folder / f"{name}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(detections, f"{name}.json")
    return path


def _origin(job: Job) -> dict:
    """Return what made a result: command, commit, versions and hardware."""
    machine = describe_machine(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    machine.pop("load average at the start")
    return {
        "row": job.row.id,
        "seed": job.seed,
        "command": shlex.join(job.command),
        "commit": _commit(),
        "machine": machine,
    }


def _commit() -> str:
    """Return the commit of the checkout, and whether its files were changed."""
    git = ["git", "-C", str(TRAIN_NET.parent)]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    commands = (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
    try:
        commit, changes = (
            subprocess.run([*git, *c], capture_output=True, text=True, check=True, env=environment)
            for c in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip() + (" with changes" if changes.stdout else "")
