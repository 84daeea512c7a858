"""Trainings that are killed again and again at random moments, until so many kills are done."""

import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from experiments.crash_test.comparison import differences
from experiments.crash_test.runs import Run, wait_until

# Of ten kills, so many are aimed at this, and the others come at any moment.
_AIMS = ["anywhere"] * 5 + ["checkpoint"] * 3 + ["evaluation"] * 2


@dataclass
class Kill:
    run: int
    seconds: float  # since the processes started
    activity: str
    resumed_from: str  # the checkpoint's name, or "the beginning"


@dataclass
class Siege:
    """What happened with one number of processes and of workers."""

    processes: int
    workers: int
    kills: list[Kill] = field(default_factory=list)
    runs: int = 0
    differences: list[str] = field(default_factory=list)


def run_unbroken(config_file: Path, folder: Path, processes: int) -> float:
    """Train without kills; return the seconds it took.

    Raises:
        RuntimeError: it failed.
    """
    start = time.monotonic()
    _finish(Run(config_file, folder, processes))
    return time.monotonic() - start


def besiege(
    config_file: Path, unbroken: Path, seconds: float, num_kills: int, siege: Siege, seed: int
) -> None:
    """Kill trainings of a config ``num_kills`` times, resume them, and compare with the unbroken.

    A training that ends before all kills are done is compared, and another one begins.

    Args:
        seconds: that the unbroken run took.
        siege: gets the kills and the differences.
    """
    random_moments = random.Random(seed)
    while True:
        siege.runs += 1
        folder = unbroken.with_name(
            f"processes{siege.processes}_workers{siege.workers}_run{siege.runs}"
        )
        while len(siege.kills) < num_kills:
            kill = _killed(config_file, folder, seconds, siege, random_moments)
            if kill is None:
                break
            siege.kills.append(kill)
        else:
            _finish(Run(config_file, folder, siege.processes))
        found = differences(unbroken, folder)
        siege.differences += [f"run {siege.runs}: {difference}" for difference in found]
        if len(siege.kills) >= num_kills:
            return


def _killed(config_file, folder, seconds, siege, random_moments) -> Kill | None:
    """Start or resume, and kill; None if the run ended before.

    Raises:
        RuntimeError: it ended by itself, and failed.
    """
    run, start = Run(config_file, folder, siege.processes), time.monotonic()
    aim = random_moments.choice(_AIMS)
    _await_moment(run, aim, random_moments, seconds)
    if run.ended():
        _finish(run)
        return None
    run.kill()
    seconds = time.monotonic() - start
    run.wait()
    return Kill(siege.runs, seconds, run.activity(), _origin(run))


def _await_moment(run: Run, aim: str, random_moments, seconds: float) -> None:
    moment = random_moments.uniform(0, seconds)
    if aim == "anywhere":
        wait_until(run.ended, moment, 0.005)
        return
    # The checkpoint or the evaluation after a random moment, and a random moment within.
    wait_until(run.ended, moment / 2, 0.005)
    if aim == "checkpoint":
        _await_checkpoint(run, random_moments, 20 * seconds)
        return
    wait_until(lambda: run.is_evaluating() or run.ended(), 20 * seconds)
    time.sleep(random_moments.uniform(0, 0.2))


def _await_checkpoint(run: Run, random_moments, seconds: float) -> None:
    """Pause the run within the writing of a checkpoint, which is soon over, unless it ends."""
    end = time.monotonic() + seconds
    while wait_until(lambda: run.is_writing() or run.ended(), end - time.monotonic()):
        if run.ended():
            return
        time.sleep(random_moments.uniform(0, 0.003))
        run.pause()
        if run.is_writing():
            return
        run.go_on()


def _origin(run: Run) -> str:
    console = run.console.read_text(errors="replace")
    loaded = [line for line in console.splitlines() if "[Checkpointer] Loading from" in line]
    return Path(loaded[-1].split(" ...")[0]).name if loaded else "the beginning"


def _finish(run: Run) -> None:
    if not run.wait():
        raise RuntimeError(f"a run failed, see {run.console}")
