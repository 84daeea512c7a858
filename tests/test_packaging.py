"""What a new user meets first: set-up, the import without Detectron2, the metadata."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PathDistribution

import pytest
from helpers.processes import run_python
from helpers.tiny_jobs import ROOT

import focal_retina
from focal_retina._detectron2 import require_detectron2

INSTALLER = ROOT / "focal_retina" / "install_detectron2.py"
OTHER = "3.10" if sys.version_info[:2] != (3, 10) else "3.11"  # Python than this one
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(target, version, folder, environment):
    """Plan a target with a stand-in for Python that answers every question with its version."""
    python = folder / "python"
    python.write_text(f"#!/bin/sh\necho {version}\n")
    python.chmod(0o755)
    # Not the options of an outer make.
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    command = ["make", "-n", target, f"PYTHON={python}", f"VENV={environment}"]
    done = subprocess.run(command, cwd=ROOT, env=kept, capture_output=True, text=True)
    return python, done


def test_import_without_detectron2_names_the_command_that_installs_it():
    done = run_python("-S", "-c", "import focal_retina")  # -S: no site-packages
    sentence = done.stderr.strip().splitlines()[-1]
    assert sentence == (
        f"ImportError: focal_retina needs Detectron2; install it with: {sys.executable} {INSTALLER}"
    )


def test_a_detectron2_as_old_as_release_0_6_is_one_sentence_with_a_command(tmp_path):
    package = tmp_path / "detectron2"
    (package / "utils").mkdir(parents=True)
    for module in ("__init__.py", "utils/__init__.py", "config.py"):
        (package / module).touch()
    old = "class EventStorage:\n    def put_scalar(self, name, value, smoothing_hint=True): ...\n"
    (package / "utils" / "events.py").write_text(old)
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    done = run_python("-S", "-c", "import focal_retina", PYTHONPATH=path)
    sentence = done.stderr.strip().splitlines()[-1]
    assert sentence.startswith(
        "ImportError: focal_retina needs a Detectron2 later than release 0.6"
    )
    assert f"which {package} is; install it with: {sys.executable} -m pip install" in sentence


def test_missing_pkg_resources_is_warned_about_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pkg_resources", None)
    command = f'{sys.executable} -m pip install "setuptools<81"'
    with pytest.warns(UserWarning, match=re.escape(f"install it with: {command}") + "$"):
        require_detectron2()


def test_detectron2_that_is_there_is_not_replaced(tmp_path):
    package = tmp_path / "detectron2"
    package.mkdir()
    (package / "__init__.py").touch()
    done = run_python(INSTALLER, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Detectron2 is there already: {package}\n"


def test_the_metadata_have_our_version_our_extras_and_no_upper_bound_of_torch(tmp_path):
    done = run_python("setup.py", "-q", "egg_info", "--egg-base", tmp_path)
    assert done.returncode == 0, done.stderr
    metadata = PathDistribution(tmp_path / "focal_retina.egg-info")
    assert metadata.version == focal_retina.__version__
    assert set(metadata.metadata.get_all("Provides-Extra")) == {"eval", "timm", "export", "dev"}
    (torch,) = [line for line in metadata.requires if line.startswith("torch>")]
    assert "<" not in torch and "==" not in torch


@needs_make
@pytest.mark.parametrize(
    "version, environment, complaint",
    [
        ("3.9", "none", "focal_retina needs Python 3.10 to 3.13, but {python} is 3.9"),
        (OTHER, sys.prefix, f"not {OTHER}: remove it, or add VENV=.venv-{OTHER}"),
    ],
)
def test_make_refuses_other_pythons_in_one_sentence(tmp_path, version, environment, complaint):
    python, done = make("install", version, tmp_path, tmp_path / environment)
    assert done.returncode != 0
    (sentence,) = done.stderr.strip().splitlines()
    assert complaint.format(python=python) in sentence


@needs_make
@pytest.mark.parametrize("target", ["demo", "test", "lint"])
def test_targets_install_first(target, tmp_path):
    python, done = make(target, "3.12", tmp_path, tmp_path / "none")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith(f"|| {python} -m venv {tmp_path / 'none'}")
    assert f"{tmp_path / 'none'}/bin/python -m " in lines[-1]
