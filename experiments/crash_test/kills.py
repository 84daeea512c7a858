"""Trainings that are killed at random moments and resumed, until enough kills are done."""

import random
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path

from experiments.crash_test.comparison import differences
from experiments.crash_test.faults import FAULTS
from experiments.crash_test.training_run import TrainingRun, wait_until
from focal_retina.errors import TrainingError

# What a kill is to hit, chosen at random from these ten.
_AIMS = ["any moment"] * 5 + ["checkpoint"] * 3 + ["evaluation"] * 2


@dataclass
class Kill:
    run: int  # number of the training, from 1
    seconds: float  # from the start of the processes
    activity: str  # what the processes were doing
    fault: str  # what came over them
    resumed_from: str  # name of the checkpoint they had started from, or "the beginning"


@dataclass
class CrashTest:
    """What happened with one number of processes and of data workers."""

    config_file: Path
    processes: int
    workers: int
    runs: int = 0  # trainings that were begun
    kills: list[Kill] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)  # from the unbroken training

    def summary(self) -> str:
        """Return the result in one line."""
        verdict = f"{len(self.differences)} DIFFERENCES" if self.differences else "no difference"
        return (
            f"{self.processes} process(es), {self.workers} worker(s): {len(self.kills)} kills, "
            f"{self.runs} run(s), {verdict}"
        )


def train_unbroken(config_file: Path, folder: Path, processes: int) -> float:
    """Train without kills; return the seconds it took.

    Raises:
        TrainingError: the training failed.
    """
    start = time.monotonic()
    _finish(TrainingRun(config_file, folder, processes))
    return time.monotonic() - start


def kill_and_resume(
    test: CrashTest, unbroken: Path, seconds: float, num_kills: int, seed: int, num_faults: int = 0
) -> None:
    """Kill and resume trainings until ``num_kills`` are done; add what happens to ``test``.

    Then let as many other faults come over trainings, each kind in turn.

    A training that ends before all kills are done is compared, and another one begins.

    Args:
        unbroken: folder of the training to compare with.
        seconds: that the unbroken training took.
        seed: of the random moments.

    Raises:
        TrainingError: a training failed that was not killed.
    """
    generator = random.Random(seed)
    names = ["SIGKILL"] * num_kills + [name for name, _ in zip(cycle(FAULTS), range(num_faults))]
    while not test.runs or len(test.kills) < len(names):
        test.runs += 1
        name = f"processes{test.processes}_workers{test.workers}_run{test.runs}"
        folder = unbroken.with_name(name)
        is_over = False
        while not is_over and len(test.kills) < len(names):
            name = names[len(test.kills)]
            meet = _ends_before_kill if name == "SIGKILL" else partial(_ends_despite, name)
            is_over = meet(test, folder, seconds, generator)
        if not is_over:
            _finish(TrainingRun(test.config_file, folder, test.processes))
        test.differences += [f"run {test.runs}: {x}" for x in differences(unbroken, folder)]


def _ends_before_kill(
    test: CrashTest, folder: Path, seconds: float, generator: random.Random
) -> bool:
    """Start or resume a training and kill it; return True if it ended before it was killed."""
    start = time.monotonic()
    run = TrainingRun(test.config_file, folder, test.processes)
    _wait_for_moment(run, seconds, generator)
    if run.has_ended():
        _finish(run)
        return True
    run.kill()
    seconds = time.monotonic() - start
    run.wait()
    test.kills.append(Kill(test.runs, seconds, run.activity(), "SIGKILL", run.resumed_from()))
    return False


def _ends_despite(
    name: str, test: CrashTest, folder: Path, seconds: float, generator: random.Random
) -> bool:
    """Let a fault of this name come over a training; return whether the training is complete."""
    begin = time.monotonic()
    start = partial(TrainingRun, test.config_file, folder, test.processes)
    run = FAULTS[name](start, generator, seconds)
    took = time.monotonic() - begin
    is_over = run.wait()
    test.kills.append(Kill(test.runs, took, run.activity(), name, run.resumed_from()))
    return is_over


def _wait_for_moment(run: TrainingRun, seconds: float, generator: random.Random) -> None:
    """Wait for a random moment to kill a training, or for its end."""
    aim = generator.choice(_AIMS)
    moment = generator.uniform(0, seconds)
    if aim == "any moment":
        wait_until(run.has_ended, moment, pause=0.005)
        return
    # A random moment within the next checkpoint or evaluation.
    wait_until(run.has_ended, moment / 2, pause=0.005)
    if aim == "checkpoint":
        _pause_in_checkpoint(run, 20 * seconds, generator)
    else:
        wait_until(lambda: run.is_evaluating() or run.has_ended(), 20 * seconds)
        time.sleep(generator.uniform(0, 0.2))


def _pause_in_checkpoint(run: TrainingRun, seconds: float, generator: random.Random) -> None:
    """Pause a training while it writes a checkpoint, which takes milliseconds only."""
    end = time.monotonic() + seconds
    while wait_until(lambda: run.is_writing() or run.has_ended(), end - time.monotonic()):
        if run.has_ended():
            return
        time.sleep(generator.uniform(0, 0.003))
        run.pause()
        if run.is_writing():
            return
        run.go_on()


def _finish(run: TrainingRun) -> None:
    if not run.wait():
        raise TrainingError(f"a training failed, see {run.console}")
