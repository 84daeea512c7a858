"""Data workers end with the process that they work for, and not before."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LOADING = """
import sys, time
import torch
from focal_retina.data.workers import with_bound_workers

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 9

    def __getitem__(self, index):
        return index

if __name__ == "__main__":
    loader = with_bound_workers(torch.utils.data.DataLoader(
        Data(), num_workers=2, multiprocessing_context=sys.argv[1]
    ))
    batches = iter(loader)
    if sys.argv[2] == "started":
        next(batches), next(batches)  # one of each worker
    print(*(worker.pid for worker in batches._workers), flush=True)
    sys.stdin.readline()
    print(len(list(batches)), flush=True)
"""


@pytest.fixture
def loading(tmp_path):
    """Return a function that starts a process with two data workers, and gives their ids."""
    script, processes = tmp_path / "loading.py", []
    script.write_text(LOADING)

    def start(*arguments):
        command = [sys.executable, script, *arguments]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, **pipes))
        return processes[0], [int(word) for word in processes[0].stdout.readline().split()]

    yield start
    processes[0].kill()
    processes[0].communicate()


def is_alive(process):
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("fork", "started"), ("spawn", "starting")])
def test_workers_end_with_a_killed_process_even_while_they_start(loading, arguments):
    process, workers = loading(*arguments)
    assert all(map(is_alive, workers)) and len(workers) == 2
    process.kill()
    end = time.monotonic() + 60
    while any(map(is_alive, workers)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(is_alive, workers))


def test_workers_go_on_after_the_signals_that_end_the_run_with_a_checkpoint(loading):
    process, workers = loading("fork", "started")
    for worker in workers:
        os.kill(worker, signal.SIGINT)
        os.kill(worker, signal.SIGTERM)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "7\n"
