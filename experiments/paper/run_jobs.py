"""Run many jobs, one after the other, each at most once."""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TextIO

from experiments.paper.jobs import Job, run_job
from experiments.paper.results import failed_result, finished_result, read_result, write_result
from focal_retina.errors import TrainingError


def run_jobs(
    jobs: Sequence[Job],
    *,
    run: Callable[[Job, TextIO], None] = run_job,
    say: Callable[[str], object] = print,
) -> list[Job]:
    """Run the jobs that are not finished, and return those that failed.

    A finished job is skipped; an interrupted one goes on from its last checkpoint; one that failed
    before is tried again. The reason of a failure is written into the result of its job, and the
    other jobs are run.

    Args:
        run: trains a job, with its output into an open file.
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
        seconds_left = (time.monotonic() - start) / count * (len(open_jobs) - count)
        took, left = (timedelta(seconds=round(s)) for s in (result["seconds"], seconds_left))
        say(f"    {_outcome(result)} in {took}; {left} left")
    return failed


def _run_one(job: Job, run: Callable[[Job, TextIO], None]) -> dict:
    start = time.monotonic()
    try:
        with open(job.output_file, "a") as output:
            run(job, output)
        return finished_result(job, time.monotonic() - start)
    except (TrainingError, OSError) as error:
        return failed_result(job, time.monotonic() - start, str(error))


def _outcome(result: dict) -> str:
    if result["status"] == "failed":
        return f"failed ({result['reason']})"
    if result["metrics"] is None:
        return f"{result['submission']} is to be submitted to the COCO server"
    return f"AP {result['metrics']['AP']:.1f}"
