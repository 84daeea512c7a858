"""How whole programs end: by signals, with lost processes, and with a folder that is in use."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.processes import run_python
from helpers.same_runs import check_same
from helpers.tiny_jobs import ROOT, metrics, options

pytestmark = [pytest.mark.slow, pytest.mark.distributed]
TWO = ["--num-gpus", 2]


def command(jobs, folder, *flags, **values):
    wanted = {"max_iter": 12, "test_datasets": "()", **values}
    settings = options("yaml", output_dir=folder, **wanted)
    return ["train_net.py", *flags, "--config-file", jobs / "tiny.yaml", *settings]


class Running:
    """A program that has begun to train."""

    def __init__(self, *arguments):
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        words = [sys.executable, *map(str, arguments)]
        self.process = subprocess.Popen(words, cwd=ROOT, env=environ, **pipes)
        self.said = ""
        self.wait_for("Starting training from")

    def wait_for(self, text):
        while text not in self.said:
            line = self.process.stdout.readline()
            assert line, self.said
            self.said += line

    def end(self):
        self.said += self.process.communicate(timeout=200)[0]
        return self.process.returncode

    def children(self):
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        names = {int(x): Path(f"/proc/{x}/cmdline").read_text() for x in path.read_text().split()}
        return [child for child, name in names.items() if "spawn_main" in name]


@pytest.fixture(scope="module")
def unbroken(jobs):
    done = run_python(*command(jobs, jobs / "unbroken", *TWO))
    assert done.returncode == 0, done.stderr
    return jobs / "unbroken"


def test_a_signal_to_the_launching_process_ends_all_of_them_at_one_iteration(
    jobs, unbroken, tmp_path
):
    running = Running(*command(jobs, tmp_path, *TWO))
    running.wait_for("No anchor is matched")  # in the first iteration
    running.process.send_signal(signal.SIGTERM)
    assert running.end() == 143
    assert running.said.count("SIGTERM ends the run after this iteration, with a checkpoint") == 1
    assert "Traceback" not in running.said
    assert (tmp_path / "last_checkpoint").read_text() == "model_interim.pth"
    done = run_python(*command(jobs, tmp_path, *TWO, "--resume"))
    assert done.returncode == 0, done.stderr
    check_same(tmp_path, unbroken)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_run_in_a_sentence(jobs, tmp_path, rank):
    running = Running(*command(jobs, tmp_path, *TWO, max_iter=500))
    os.kill(running.children()[rank], signal.SIGKILL)
    assert running.end() == 3
    assert "SIGKILL: look whether memory or /dev/shm was full" in running.said
    assert "Traceback" not in running.said


def test_a_killed_data_worker_ends_the_run_in_a_sentence(jobs, tmp_path):
    workers = ["DATALOADER.NUM_WORKERS", 1]
    running = Running(*command(jobs, tmp_path, max_iter=500), *workers)
    running.wait_for("No anchor is matched")
    path = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
    os.kill(int(path.read_text().split()[-1]), signal.SIGKILL)
    assert running.end() == 3
    assert "train_net.py: error: DataLoader worker" in running.said
    assert "Traceback" not in running.said


def test_a_second_run_in_the_same_folder_is_refused_and_the_first_one_goes_on(jobs, tmp_path):
    running = Running(*command(jobs, tmp_path, max_iter=60))
    refused = run_python(*command(jobs, tmp_path, "--resume"))
    assert refused.returncode == 2
    assert f"is in use by process {running.process.pid} on" in refused.stderr
    assert running.end() == 0
    assert (tmp_path / "model_final.pth").exists()


def test_the_demo_s_levels_train_in_two_processes(jobs, tmp_path):
    levels = ["MODEL.RETINANET.IN_FEATURES", "('p3', 'p4', 'p5')"]
    levels += ["MODEL.ANCHOR_GENERATOR.SIZES", "[[24], [48], [96]]"]
    done = run_python(*command(jobs, tmp_path, *TWO), *levels)
    assert done.returncode == 0, done.stderr
    assert metrics(tmp_path)[-1]["iteration"] == 11


def test_weights_that_no_loss_reaches_are_named_before_two_processes_train(jobs, tmp_path):
    levels = ["MODEL.RETINANET.IN_FEATURES", "('p4', 'p5', 'p6', 'p7')"]
    levels += ["MODEL.ANCHOR_GENERATOR.SIZES", "[[24], [48], [96], [160]]"]
    done = run_python(*command(jobs, tmp_path, *TWO), *levels)
    assert done.returncode == 2
    assert "no loss reaches" in done.stderr and "backbone.fpn_output3" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_reader_that_has_gone_and_a_full_disk_end_no_training(jobs, tmp_path):
    words = [sys.executable, *command(jobs, tmp_path)]
    shell = " ".join(f"'{word}'" for word in words) + " 2>&1 | head -n 1; exit ${PIPESTATUS[0]}"
    call = f"import subprocess, sys; sys.exit(subprocess.run(['bash', '-c', {shell!r}]).returncode)"
    done = run_python("-c", call)
    assert done.returncode == 0, done.stderr
    assert torch.load(tmp_path / "model_final.pth", weights_only=True)["iteration"] == 11
    assert "standard output cannot be written (Broken pipe)" in (tmp_path / "log.txt").read_text()
