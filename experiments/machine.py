"""The machine that an experiment runs on, and the time it takes."""

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import detectron2
import torch

PACKAGES = ("torch", "torchvision", "fvcore", "pycocotools", "hotcoco", "triton")


def describe_machine(device: torch.device) -> dict[str, str]:
    """Return names and versions of hardware and software, and how busy the machine is."""
    is_cuda = device.type == "cuda"
    return {
        "CPU": _cpu_model(),
        "CPU cores, threads of PyTorch": f"{os.cpu_count()}, {torch.get_num_threads()}",
        "load average at the start": f"{os.getloadavg()[0]:.1f}",
        "CUDA device": torch.cuda.get_device_name(device) if is_cuda else "none used",
        "system": platform.platform(),
        "Python": platform.python_version(),
        "detectron2": detectron2.__version__,
        **{name: _version(name) for name in PACKAGES},
    }


def synchronize(device: torch.device) -> None:
    """Wait for the work of a CUDA device; other devices have done theirs."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of one run, without the time to free its result."""
    synchronize(device)
    start = time.perf_counter()
    result = run()
    synchronize(device)
    seconds = time.perf_counter() - start
    del result
    return seconds


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")  # Linux only
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
