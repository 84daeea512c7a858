"""Processes meet where they can, say when one is lost, and leave each other in peace."""

import os
import socket
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from helpers.processes import run_processes
from torch.nn.parallel import DistributedDataParallel

from focal_retina.distributed import leave, lost_process, why_no_meeting


def count_gloo_threads():
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    return sum("gloo" in name for name in names)


def use_the_group():
    model = DistributedDataParallel(torch.nn.Linear(2, 2))
    model(torch.ones(1, 2)).sum().backward()
    model.cycle = [model]  # what refers to itself waits for the garbage collector
    assert comm.all_gather(comm.get_rank()) == [0, 1]


def one_of_two_processes():
    use_the_group()
    assert count_gloo_threads() > 0
    leave()
    assert count_gloo_threads() == 0
    assert comm.get_world_size() == 1


@pytest.mark.slow
@pytest.mark.distributed
def test_no_thread_of_the_group_is_left_and_leaving_again_does_no_harm():
    run_processes(2, one_of_two_processes)  # which leaves once more


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_that_is_taken_is_told_to_the_machine_that_would_serve_on_it(taken):
    url = f"tcp://127.0.0.1:{taken}"
    assert "Address already in use" in why_no_meeting(url, 0)
    assert why_no_meeting(url, 1) is None


def test_the_environment_may_name_the_port(taken, monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setenv("MASTER_PORT", str(taken))
    assert "needs the environment variables MASTER_ADDR;" in why_no_meeting("env://", 0)
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    assert "in use" in why_no_meeting("env://", 0)


BAD_URLS = {
    "tcp://127.0.0.1:70000": "a port from 1 to 65535",
    "tcp://127.0.0.1:0": "a port from 1 to 65535",
    "tcp://127.0.0.1": "a port from 1 to 65535",
    "udp://127.0.0.1:5000": "is neither auto nor tcp",
    "tcp://not-a-host.invalid:5000": "unknown host",
    "file:///no/such/folder/meeting": "in no folder that can be written",
}


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_where_nobody_can_meet_is_told_at_once(url):
    assert BAD_URLS[url] in why_no_meeting(url, 0)


def test_a_file_to_meet_at_must_be_new(tmp_path):
    url = f"file://{tmp_path}/meeting"
    assert why_no_meeting(url, 0) is None
    (tmp_path / "meeting").touch()
    assert "the file of another run" in why_no_meeting(url, 0)


def test_a_free_port_is_fine():
    with socket.create_server(("", 0)) as probe:
        port = probe.getsockname()[1]
    assert why_no_meeting(f"tcp://localhost:{port}", 0) is None


class Dying(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        os._exit(7)


def test_a_data_worker_that_died_is_told_as_such():
    with pytest.raises(RuntimeError) as raised:
        list(torch.utils.data.DataLoader(Dying(), num_workers=1))
    assert "DataLoader worker" in lost_process(raised.value)
    assert "/dev/shm" in lost_process(raised.value)


def test_other_errors_are_no_lost_processes():
    with pytest.raises(RuntimeError) as raised:
        torch.ones(2) @ torch.ones(3)
    assert lost_process(raised.value) is None
