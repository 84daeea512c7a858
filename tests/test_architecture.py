"""Imports keep their directions, so that data flows one way."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "focal_retina"
CONSUMERS = {"retinanet", "proposals"}
PARTS = sorted(p.stem for p in (PACKAGE / "modeling").glob("*.py") if p.stem != "__init__")
GROUND = {
    "errors",
    "files",
    "states",
    "terminal",
    "box_drawing",
    "run_files",
    "config",
    "registry",
    "distributed",
    "detectron2_internals",
    "_detectron2",
}
# Room -> rooms it may import from, besides itself and the ground.
ROOMS = {
    "ops": set(),
    "acceleration": {"ops"},
    "data": set(),
    "checkpoint": set(),
    "modeling": {"ops", "acceleration"},
    "settings": {"modeling", "data", "ops"},
    "evaluation": {"settings", "modeling", "data", "acceleration"},
    "training": {"evaluation", "settings", "checkpoint", "modeling", "data"},
    "engine": {"training", "evaluation", "settings", "checkpoint", "data", "modeling"},
    "inference": {"settings", "evaluation", "checkpoint", "data", "modeling"},
    "export": {"modeling", "ops"},
    "anchor_analysis": {"modeling", "ops", "data"},
}


def nodes_at_run_time(node):
    """Yield the nodes below, but for those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from nodes_at_run_time(child)


def imports_of(path):
    for node in nodes_at_run_time(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("part", [p for p in PARTS if p not in CONSUMERS])
def test_the_parts_of_the_model_do_not_import_each_other(part):
    imported = imports_of(PACKAGE / "modeling" / f"{part}.py")
    assert [m for m in imported if m.startswith("focal_retina.modeling")] == []


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_lies_below(room):
    allowed = ROOMS[room] | {room} | GROUND
    for path in (PACKAGE / room).rglob("*.py"):
        ours = [m.split(".")[1] for m in imports_of(path) if m.startswith("focal_retina.")]
        assert set(ours) <= allowed, path


@pytest.mark.parametrize("room", ["training", "evaluation", "engine"])
def test_the_engine_asks_the_model_and_does_not_reach_into_its_parts(room):
    part = re.compile(r"(model|_plain)\.(loss|preprocessor|head|assigner|postprocessor)\b")
    code = "".join(path.read_text() for path in (PACKAGE / room).rglob("*.py"))
    assert not part.search(code)
