"""What a new user meets first: set-up, the import without Detectron2, the metadata."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

import focal_retina
from focal_retina._detectron2 import require_detectron2

ROOT = Path(focal_retina.__file__).parent.parent
INSTALLER = ROOT / "focal_retina" / "install_detectron2.py"
OTHER = "3.10" if sys.version_info[:2] != (3, 10) else "3.11"  # Python than this one
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def run(*command, **environ):
    """Run a command in the checkout; ``make`` must not inherit the options of an outer one."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=kept | environ,
        capture_output=True,
        text=True,
    )


def python_that_says(version, folder):
    """Write a stand-in for an interpreter that answers every question with its version."""
    file = folder / "python"
    file.write_text(f"#!/bin/sh\necho {version}\n")
    file.chmod(0o755)
    return file


@pytest.fixture(scope="module")
def metadata(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metadata")
    done = run(sys.executable, "setup.py", "-q", "egg_info", "--egg-base", folder)
    assert done.returncode == 0, done.stderr
    return PathDistribution(folder / "focal_retina.egg-info")


def test_import_without_detectron2_names_the_command_that_installs_it():
    done = run(sys.executable, "-S", "-c", "import focal_retina")  # -S: no site-packages
    sentence = done.stderr.strip().splitlines()[-1]
    assert sentence == (
        f"ImportError: focal_retina needs Detectron2; install it with: {sys.executable} {INSTALLER}"
    )


def test_missing_pkg_resources_is_warned_about_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pkg_resources", None)
    command = f'{sys.executable} -m pip install "setuptools<81"'
    with pytest.warns(UserWarning, match=re.escape(f"install it with: {command}") + "$"):
        require_detectron2()


def test_detectron2_that_is_there_is_not_replaced(tmp_path):
    package = tmp_path / "detectron2"
    package.mkdir()
    (package / "__init__.py").touch()
    done = run(sys.executable, INSTALLER, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Detectron2 is there already: {package}\n"


def test_version_of_the_metadata_is_the_package_s(metadata):
    assert metadata.version == focal_retina.__version__


def test_extras_are_eval_timm_export_dev(metadata):
    assert set(metadata.metadata.get_all("Provides-Extra")) == {"eval", "timm", "export", "dev"}


def test_torch_has_a_lower_bound_and_no_upper_one(metadata):
    (torch,) = [line for line in metadata.requires if line.startswith("torch>")]
    assert "<" not in torch
    assert "==" not in torch


@needs_make
@pytest.mark.parametrize(
    "version, environment, complaint",
    [
        ("3.9", "none", "focal_retina needs Python 3.10 to 3.13, but {python} is 3.9"),
        (OTHER, sys.prefix, f"not {OTHER}: remove it, or add VENV=.venv-{OTHER}"),
    ],
)
def test_make_refuses_other_pythons_in_one_sentence(tmp_path, version, environment, complaint):
    python = python_that_says(version, tmp_path)
    done = run("make", "-n", "install", f"PYTHON={python}", f"VENV={tmp_path / environment}")
    assert done.returncode != 0
    (sentence,) = done.stderr.strip().splitlines()
    assert complaint.format(python=python) in sentence


@needs_make
@pytest.mark.parametrize("target", ["demo", "test", "lint"])
def test_targets_install_first(target, tmp_path):
    python = python_that_says("3.12", tmp_path)
    done = run("make", "-n", target, f"PYTHON={python}", f"VENV={tmp_path / 'none'}")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith(f"|| {python} -m venv {tmp_path / 'none'}")
    assert f"{tmp_path / 'none'}/bin/python -m " in lines[-1]
