"""LazyConfigs with bad values, unknown keys and broken files."""

from pathlib import Path

import yaml
from bad_input.running import Case

TABLES = yaml.safe_load(Path(__file__).with_name("lazy_overrides.yaml").read_text())
LOAD = "from detectron2.config import LazyConfig\nbase = LazyConfig.load"
# Content of the file -> what the sentence names.
FILES = {
    "empty": ("", "defines no model"),
    "text": ("hello there\n", "a.py"),
    "unfinished": ("model = {", "a.py"),
    "zeros": (bytes(100), "a.py"),
    "binary": (bytes(range(256)), "a.py"),
    "latin1": ("# caf\u00e9\nmodel = 1\n".encode("latin1"), "a.py"),
    "folder": (None, "a.py is a folder"),
    "name": ("x = 1\nmodel = nonesuch\n", "a.py, line 2"),
    "division": ("\n\nx = 1 / 0\n", "a.py, line 3"),
    "missing-import": ("import nonesuch\n", "nonesuch"),
    "missing-relative": ("from .nonesuch import model\n", "nonesuch.py"),
    "missing-name": ("from detectron2 import nonesuch\n", "nonesuch"),
    "itself": ("from .a import model\n", "a.py"),
    "model-number": ("model = 3\n", "model"),
    "model-list": ("model = [1]\n", "model"),
    "model-only": ("model = dict()\n", "dataloader"),
    "exit": ("raise ValueError('no')\n", "a.py, line 1"),
    "attribute": ("import torch\ntorch.nonesuch\n", "a.py, line 2"),
    "base-attribute": (f"{LOAD}('{{jobs}}/tiny.py')\nbase.model.nonesuch.x = 1\n", "a.py, line 3"),
    "base-missing": (f"{LOAD}('nonesuch.py')\n", "nonesuch.py"),
}


def override_case(override: str, culprit: str) -> Case:
    options = ("train.output_dir={here}/out", override)
    arguments = ("--config-file", "{jobs}/tiny.py", *options)
    return Case(f"lazy-{override or 'empty'}", "train_net", arguments, culprit)


def cases() -> list[Case]:
    """Every bad value, override and file."""
    values = [(key, value) for key, bad in TABLES["values"].items() for value in bad.split()]
    found = [override_case(f"{key}={value}", key.split(".")[-1]) for key, value in values]
    found += [override_case(override, culprit) for override, culprit in TABLES["overrides"].items()]
    for name, (content, culprit) in FILES.items():
        arguments = ("--config-file", "{here}/a.py")
        found.append(Case(f"lazy-file-{name}", "train_net", arguments, culprit, {"a.py": content}))
    return found
