"""One row with one seed: its folder, config, command and result."""

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from experiments.benchmark.machine import describe_machine
from experiments.paper.preset import CONFIGS, Preset, row_overrides
from experiments.paper.rows import Row
from focal_retina.checkpoint.atomic import write_atomically
from focal_retina.settings.flat_keys import nested_keys
from focal_retina.settings.yaml_config import load_yaml

TRAIN_NET = CONFIGS.parent / "train_net.py"
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@dataclass(frozen=True)
class Job:
    """A training run, of which ``folder`` holds all: config.yaml, log, weights, result.json."""

    row: Row
    seed: int
    folder: Path
    num_gpus: int = 1

    @property
    def name(self) -> str:
        return f"{self.row.id} seed {self.seed}"

    @property
    def config_file(self) -> Path:
        return self.folder / "job.yaml"

    @property
    def command(self) -> list[str]:
        """The command that trains and evaluates, or goes on with it."""
        gpus = ["--num-gpus", str(self.num_gpus)]
        return [
            *(sys.executable, str(TRAIN_NET), "--config-file", str(self.config_file)),
            *(*gpus, "--resume"),
        ]


def make_job(row: Row, seed: int, preset: Preset, output: Path, num_gpus: int = 1) -> Job:
    """Write the config of a job into its folder.

    Raises:
        ValueError: the folder holds a job of another config, or the config is not usable.
    """
    job = Job(row, seed, output.absolute() / row.id / f"seed{seed}", num_gpus)
    config = yaml.safe_dump(job_overrides(job, preset), sort_keys=False)
    job.folder.mkdir(parents=True, exist_ok=True)
    if job.config_file.exists() and job.config_file.read_text() != config:
        raise ValueError(
            f"{job.config_file} has another config than this run: choose another --output, or "
            f"remove {output}"
        )
    write_atomically(str(job.config_file), config.encode())
    load_yaml(str(job.config_file))
    return job


def job_overrides(job: Job, preset: Preset) -> dict:
    """Return the content of the job's config file, nested as in YAML."""
    # A path as it is, or else a file of configs/.
    base = str(CONFIGS / preset.base_config)
    overrides = row_overrides(job.row, preset, job.folder.parents[1] / "shapes")
    overrides |= {"OUTPUT_DIR": str(job.folder), "SEED": job.seed}
    if job.row.schedule != 1:
        opts = [
            x
            for key in ("SOLVER.MAX_ITER", "SOLVER.STEPS")
            if key in overrides
            for x in (key, overrides[key])
        ]
        solver = load_yaml(base, opts).SOLVER
        overrides["SOLVER.MAX_ITER"] = round(solver.MAX_ITER * job.row.schedule)
        overrides["SOLVER.STEPS"] = [round(step * job.row.schedule) for step in solver.STEPS]
    return nested_keys({"_BASE_": base, **overrides})


def run_job(job: Job, log) -> None:
    """Run the command in a process of its own, its output into the open file ``log``.

    Raises:
        RuntimeError: it failed; the message is its last line.
    """
    process = subprocess.Popen(
        job.command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        status = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)  # with the processes of its GPUs
        process.wait()
        raise
    if status:
        log.flush()
        lines = Path(log.name).read_text(errors="replace").strip().splitlines()
        raise RuntimeError(f"exit status {status}: {lines[-1] if lines else 'no output'}")


def finish_job(job: Job, seconds: float) -> dict:
    """Read what the training left, write the results file to submit, and return the result."""
    result = {"status": "done", "seconds": seconds, **_origin(job)}
    detections = job.folder / "inference" / "coco_instances_results.json"
    metrics = read_metrics(job.folder)
    if metrics and json.loads(detections.read_text()) == []:
        metrics = dict.fromkeys(metrics, 0.0)  # Detectron2 calls this not a number
    if metrics is None and not detections.is_file():
        raise RuntimeError("the run ended without an evaluation")
    if metrics is None:
        result["submission"] = str(_write_submission(job, detections))
    for checkpoint in job.folder.glob("model_[0-9]*.pth"):
        checkpoint.unlink()  # tens of GB over a sweep; model_final.pth stays
    return result | {"metrics": metrics}


def failed_job(job: Job, seconds: float, reason: str) -> dict:
    """Return the result of a job that failed."""
    return {"status": "failed", "reason": reason, "seconds": seconds, **_origin(job)}


def read_metrics(folder: Path) -> dict[str, float] | None:
    """Return AP and its kin of the last evaluation, in percent; None where there was none.

    One that is not defined, such as APl without large objects, is None too.
    """
    lines = (folder / "metrics.json").read_text().splitlines()
    evaluations = [line for line in map(json.loads, lines) if "bbox/AP" in line]
    if not evaluations:
        return None
    metrics = {key: evaluations[-1][f"bbox/{key}"] for key in METRICS}
    return {key: None if math.isnan(value) else value for key, value in metrics.items()}


def read_result(folder: Path) -> dict | None:
    """Return the result of a job's folder, None if it has none yet."""
    path = folder / "result.json"
    return json.loads(path.read_text()) if path.exists() else None


def write_result(folder: Path, result: dict) -> None:
    write_atomically(str(folder / "result.json"), json.dumps(result, indent=1).encode())


def _write_submission(job: Job, detections: Path) -> Path:
    """Write the archive that the COCO server takes."""
    name = f"detections_test-dev2017_{job.row.id}-seed{job.seed}_results"
    path = job.folder / f"{name}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(detections, f"{name}.json")
    return path


def _origin(job: Job) -> dict:
    """Return what made a result: command, commit, versions and hardware."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = describe_machine(device)
    machine.pop("load average at the start")
    return {
        "row": job.row.id,
        "seed": job.seed,
        "command": shlex.join(job.command),
        "commit": _commit(),
        "machine": machine,
    }


def _commit() -> str:
    git = ["git", "-C", str(CONFIGS.parent)]
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
