"""The commands explain themselves and say what is wrong with their arguments."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MISTAKES = [
    ("paper_tables", ["run", "9z"], "there is no table or row '9z'"),
    ("paper_tables", ["run", "1a", "--preset", "missing.yaml"], "missing.yaml"),
    ("paper_tables", ["report", "--output", "missing"], "there is no folder missing"),
    ("paper_tables", ["run", "1a", "--output", "file"], "--output file cannot be written"),
    ("benchmark", ["--height", "100"], "give sides above 128"),
    ("benchmark", ["--quick", "--output", "file"], "--output file cannot be written"),
    ("crash_test", ["--output", "."], "is not empty: name another --output"),
    ("plot_analysis", ["--output", "file"], "--output file cannot be written"),
]


@pytest.mark.parametrize("name", ["paper_tables", "benchmark", "crash_test", "plot_analysis"])
def test_help_names_the_command_that_is_run_from_the_checkout(name):
    command = [sys.executable, "-m", f"experiments.{name}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"usage: python -m experiments.{name} [-h]" in done.stdout
    assert f"    python -m experiments.{name}" in done.stdout
    assert "from the checkout" in done.stdout


@pytest.mark.parametrize(("name", "arguments", "sentence"), MISTAKES)
def test_a_mistake_ends_in_one_sentence(tmp_path, monkeypatch, capsys, name, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    is_package = (ROOT / "experiments" / name).is_dir()
    module = importlib.import_module(f"experiments.{name}" + ".__main__" * is_package)
    assert module.main(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"{name}: error: ") and sentence in line


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_commands_that_exist(document):
    names = set(re.findall(r"python -m ([\w.]+)", document.read_text()))
    paths = [ROOT.joinpath(*name.split(".")) for name in names - {"pytest"}]
    missing = [p for p in paths if not (p.with_suffix(".py").is_file() or p.is_dir())]
    assert missing == []
