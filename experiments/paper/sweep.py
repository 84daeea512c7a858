"""Many jobs, one after the other, each at most once."""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from experiments.paper.jobs import (
    Job,
    failed_job,
    finish_job,
    read_result,
    run_job,
    write_result,
)


def run_sweep(
    jobs: Sequence[Job],
    *,
    run: Callable = run_job,
    say: Callable[[str], object] = print,
) -> list[Job]:
    """Run the jobs that are not finished, and return those that failed.

    A finished job is skipped; an interrupted one goes on from its last checkpoint; one that failed
    before is tried again. A failure is written down with its reason, and the others go on.

    Args:
        run: from a job and an open log file to its trained folder; raises where that fails.
        say: takes the lines of progress.
    """
    open_jobs = [job for job in jobs if (read_result(job.folder) or {}).get("status") != "done"]
    say(f"{len(jobs)} runs, {len(jobs) - len(open_jobs)} of them finished before")
    failed, start = [], time.monotonic()
    for count, job in enumerate(open_jobs, start=1):
        say(f"[{count}/{len(open_jobs)}] {job.name}: log in {job.folder}/log.txt")
        result = _run_one(job, run)
        write_result(job.folder, result)
        if result["status"] == "failed":
            failed.append(job)
        spent = time.monotonic() - start
        left = spent / count * (len(open_jobs) - count)
        say(f"    {outcome(result)} in {_duration(result['seconds'])}; {_duration(left)} left")
    return failed


def _run_one(job: Job, run: Callable) -> dict:
    start = time.monotonic()
    try:
        with open(job.folder / "output.txt", "a") as log:
            run(job, log)
        return finish_job(job, time.monotonic() - start)
    except Exception as error:  # whatever it is, it is the row's, and is reported
        reason = f"{type(error).__name__}: {error}"
        return failed_job(job, time.monotonic() - start, reason)


def outcome(result: dict) -> str:
    """Return in a few words what a job came to."""
    if result["status"] == "failed":
        return f"failed ({result['reason']})"
    if result["metrics"] is None:
        return f"{result['submission']} is to be submitted to the COCO server"
    return f"AP {result['metrics']['AP']:.1f}"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
