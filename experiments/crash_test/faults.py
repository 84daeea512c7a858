"""What may come over a training besides the death of all its processes at any moment."""

import random
import signal
import time
from collections.abc import Callable

from experiments.crash_test.training_run import TrainingRun, wait_until
from focal_retina.errors import TrainingError

# Gives a run that has just started, with these options.
Start = Callable[..., TrainingRun]
_LARGEST_FILE = 2_000_000  # bytes: more than a checkpoint has


def early_kill(start: Start, generator: random.Random, seconds: float) -> TrainingRun:
    """Kill all processes as soon as they train: at first, before there is a checkpoint."""
    run = start()
    wait_until(lambda: run.is_training() or run.has_ended(), 40 * seconds)
    time.sleep(generator.uniform(0, 0.2))
    run.kill()
    return run


def one_process(start: Start, generator: random.Random, seconds: float) -> TrainingRun:
    """Kill one process; the others must end by themselves."""
    run = _at_a_moment(start(), generator, seconds)
    run.send(signal.SIGKILL, generator.randrange(len(run.pids)))
    return _ended(run, 120)


def terminate(start: Start, generator: random.Random, seconds: float) -> TrainingRun:
    """Ask all processes to end, by SIGTERM or SIGINT."""
    run = _at_a_moment(start(), generator, seconds)
    number = generator.choice([signal.SIGTERM, signal.SIGINT])
    for rank in range(len(run.pids)):
        run.send(number, rank)
    return _ended(run, 120)


def full_disk(start: Start, generator: random.Random, seconds: float) -> TrainingRun:
    """Train to the end where no file can be longer than some size."""
    limit = int(10 ** generator.uniform(4, 6.3))
    return _ended(start(file_limit=min(limit, _LARGEST_FILE)), 40 * seconds)


def closed_output(start: Start, generator: random.Random, seconds: float) -> TrainingRun:
    """Train to the end with nobody to read what is printed; the disk has it all."""
    run = _ended(start(has_reader=False), 40 * seconds)
    if not run.wait():
        raise TrainingError(f"a training without a reader of its output failed, see {run.folder}")
    return run


def second_run(start: Start, generator: random.Random, seconds: float) -> TrainingRun:
    """Start another run in the same folder, which must be refused, and kill the first one later."""
    run = start()
    wait_until(lambda: run.is_training() or run.has_ended(), 40 * seconds)
    if not run.has_ended():
        other = start(console="refused.txt")
        if other.wait() or "is in use by process" not in other.console.read_text():
            raise TrainingError(f"a second run in {run.folder} was not refused")
        _at_a_moment(run, generator, seconds / 2).kill()
    return run


FAULTS = {
    "SIGKILL early": early_kill,
    "SIGKILL of one process": one_process,
    "SIGTERM or SIGINT": terminate,
    "full disk": full_disk,
    "closed output": closed_output,
    "a second run": second_run,
}


def _at_a_moment(run: TrainingRun, generator: random.Random, seconds: float) -> TrainingRun:
    wait_until(run.has_ended, generator.uniform(0, seconds), pause=0.005)
    return run


def _ended(run: TrainingRun, seconds: float) -> TrainingRun:
    """Wait for the end of a run; kill it and raise a TrainingError if it hangs."""
    if not wait_until(run.have_all_ended, seconds, pause=0.02):
        run.kill()
        run.wait()
        raise TrainingError(f"a training did not end, see {run.console}")
    time.sleep(0.05)
    return run
