"""One row with one seed: its folder, config and command."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import yaml

from experiments.paper.preset import CONFIGS, Preset, row_overrides
from experiments.paper.rows import Row
from focal_retina.errors import TrainingError, UserError
from focal_retina.files import write_atomically
from focal_retina.settings.flat_keys import nested_keys
from focal_retina.settings.yaml_config import load_yaml

TRAIN_NET = CONFIGS.parent / "train_net.py"


@dataclass(frozen=True)
class Job:
    """A training, with everything in ``folder``: job.yaml, logs, weights and result.json."""

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
    def output_file(self) -> Path:
        """What the command prints."""
        return self.folder / "output.txt"

    @property
    def command(self) -> list[str]:
        """The command that trains and evaluates; after an interruption it goes on."""
        options = ["--config-file", str(self.config_file), "--num-gpus", str(self.num_gpus)]
        return [sys.executable, str(TRAIN_NET), *options, "--resume"]


def make_job(row: Row, seed: int, preset: Preset, output: Path, num_gpus: int = 1) -> Job:
    """Write the config of a job into its folder.

    Raises:
        UserError: the folder holds a job with another config, or the config cannot be used.
    """
    job = Job(row, seed, output.absolute() / row.id / f"seed{seed}", num_gpus)
    config = yaml.safe_dump(_job_config(job, preset), sort_keys=False)
    job.folder.mkdir(parents=True, exist_ok=True)
    if job.config_file.exists() and job.config_file.read_text() != config:
        raise UserError(
            f"{job.config_file} has another config than this run: choose another --output, or "
            f"remove {output}"
        )
    write_atomically(str(job.config_file), config.encode())
    load_yaml(str(job.config_file))
    return job


def _job_config(job: Job, preset: Preset) -> dict:
    """Return the content of the job's config file, nested as in YAML."""
    base = str(CONFIGS / preset.base_config)  # an absolute path stays what it is
    overrides = row_overrides(job.row, preset, job.folder.parents[1] / "shapes")
    overrides |= {"OUTPUT_DIR": str(job.folder), "SEED": job.seed}
    if job.row.schedule != 1:
        of_solver = (item for item in preset.overrides.items() if item[0].startswith("SOLVER."))
        solver = load_yaml(base, [x for item in of_solver for x in item]).SOLVER
        overrides["SOLVER.MAX_ITER"] = round(solver.MAX_ITER * job.row.schedule)
        overrides["SOLVER.STEPS"] = [round(step * job.row.schedule) for step in solver.STEPS]
    return nested_keys({"_BASE_": base, **overrides})


def run_job(job: Job, output: TextIO) -> None:
    """Run the command in a process of its own.

    Args:
        output: an open file that takes what the command prints.

    Raises:
        TrainingError: the command failed; the message has its last line and names the file.
    """
    process = subprocess.Popen(
        job.command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        status = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)  # with the processes of its GPUs
        process.wait()
        raise
    if status:
        lines = Path(output.name).read_text(errors="replace").strip().splitlines()
        last = lines[-1] if lines else "no output"
        raise TrainingError(f"exit status {status}: {last} (see {output.name})")
