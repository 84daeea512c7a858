"""Imports keep their directions, so that data flows one way."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "focal_retina"
CONSUMERS = {"retinanet", "proposals"}
PARTS = sorted(p.stem for p in (PACKAGE / "modeling").glob("*.py") if p.stem != "__init__")
# Folder -> folders it may import from, besides itself, `config` and `registry`.
LAYERS = {
    "ops": set(),
    "modeling": {"ops"},
    "checkpoint": {"modeling"},
    "data": set(),
    "coverage": {"modeling", "ops"},
    "export": {"modeling", "ops"},
    "engine": {"modeling", "data", "ops", "checkpoint"},
    "benchmark": {"engine", "modeling", "ops"},
    "torture": {"engine", "data", "checkpoint"},
    "paper": {"engine", "checkpoint", "modeling", "data", "ops", "benchmark"},
}


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("part", [p for p in PARTS if p not in CONSUMERS])
def test_the_parts_of_the_model_do_not_import_each_other(part):
    imported = imports_of(PACKAGE / "modeling" / f"{part}.py")
    assert [m for m in imported if m.startswith("focal_retina.modeling")] == []


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_import_only_what_lies_below(layer):
    allowed = LAYERS[layer] | {layer, "config", "registry"}
    for path in (PACKAGE / layer).rglob("*.py"):
        ours = [m.split(".")[1] for m in imports_of(path) if m.startswith("focal_retina.")]
        assert set(ours) <= allowed, path
