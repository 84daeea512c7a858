"""Under torchrun, what is killed costs the iterations since the last checkpoint, and no more."""

import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial

import pytest
from helpers.processes import run_python
from helpers.same_runs import check_same
from helpers.tiny_jobs import ROOT, options

pytestmark = [pytest.mark.slow, pytest.mark.distributed]


def job(jobs, folder):
    settings = options(
        "yaml", output_dir=folder, max_iter=16, checkpoint_period=4, test_datasets="()"
    )
    return ["train_net.py", "--resume", "--config-file", jobs / "tiny.yaml", *settings]


@pytest.fixture(scope="module")
def unbroken(jobs):
    script, *arguments = job(jobs, jobs / "unbroken")
    done = run_python(script, "--num-gpus", 2, *arguments)
    assert done.returncode == 0, done.stderr
    return jobs / "unbroken"


class Node:
    """A torchrun agent with one process, and its processes."""

    def __init__(self, jobs, folder, port, console, *, is_host):
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}"]
        meeting += ["--rdzv-conf", f"is_host={int(is_host)}"]
        nodes = ["--nnodes", 2, "--nproc-per-node", 1, "--max-restarts", 2, "--rdzv-id", "test"]
        words = [sys.executable, "-m", "torch.distributed.run", *nodes, *meeting]
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        # PyTorch 2.14 tells the address of the first node to those of the first round only.
        environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        self.console = console
        with open(console, "a") as output:
            self.agent = subprocess.Popen(
                list(map(str, [*words, *job(jobs, folder)])),
                cwd=ROOT,
                env=environ,
                stdout=output,
                stderr=output,
            )

    def workers(self):
        found = subprocess.run(["pgrep", "-P", str(self.agent.pid)], capture_output=True, text=True)
        return [int(word) for word in found.stdout.split()]


def kill_a_process(node, start):
    os.kill(node.workers()[0], signal.SIGKILL)
    return node


def kill_a_node(node, start):
    workers = node.workers()
    for process in (node.agent.pid, *workers):
        os.kill(process, signal.SIGKILL)
    node.agent.wait()
    return start()


@pytest.mark.parametrize("kill", [kill_a_process, kill_a_node])
def test_what_is_killed_under_torchrun_changes_nothing_of_the_result(
    jobs, unbroken, tmp_path, kill
):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    folder = tmp_path / "out"
    first = Node(jobs, folder, port, tmp_path / "node0.txt", is_host=True)
    start = partial(Node, jobs, folder, port, tmp_path / "node1.txt", is_host=False)
    second = start()
    try:
        end = time.monotonic() + 200
        while not (folder / "model_0000003.pth").exists():
            assert time.monotonic() < end, (tmp_path / "node0.txt").read_text()[-3000:]
            time.sleep(0.02)
        second = kill(second, start)
        for node in (first, second):
            assert node.agent.wait(timeout=250) == 0, node.console.read_text()[-3000:]
    finally:
        for node in (first, second):
            for process in (*node.workers(), node.agent.pid):
                if node.agent.poll() is None:
                    os.kill(process, signal.SIGKILL)
    check_same(folder, unbroken)
