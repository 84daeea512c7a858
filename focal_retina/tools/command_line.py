"""Arguments that the tools share, and the check of what they write to."""

import argparse
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from detectron2.data import MetadataCatalog

from focal_retina import files
from focal_retina.errors import UserError, shown
from focal_retina.settings.machine import why_not_writable
from focal_retina.settings.rules import Rule, number, whole
from focal_retina.settings.yaml_files import check_files


def tool_parser(
    name: str, description: str | None, package: str = "focal_retina.tools"
) -> argparse.ArgumentParser:
    """Return the parser of ``python -m package.name``."""
    return argparse.ArgumentParser(
        prog=f"python -m {package}.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_config_arguments(parser: argparse.ArgumentParser, **options: object) -> None:
    """Add --config-file, with these options of argparse, and --trust-config."""
    parser.add_argument("--config-file", **options)
    parser.add_argument("--trust-config", action="store_true", help="run the YAML's Python tags")


def add_detector_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``Predictor`` takes: --config-file, --trust-config, --weights and --opts."""
    add_config_arguments(parser, required=True, help=".yaml, or .py with KEY=VALUE in --opts")
    parser.add_argument("--weights", help="used instead of the config's weights")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY VALUE", help="config keys")


def count(least: int = 1, most: int = 2**31 - 1) -> Callable[[str], int]:
    """Return an argparse type: a whole number from ``least`` to ``most``."""
    return partial(_parse, int, whole(least, most))


def share() -> Callable[[str], float]:
    """Return an argparse type: a number from 0 to 1."""
    return partial(_parse, float, number(0, 1))


def make_output_folder(folder: str) -> Path:
    """Make the folder that ``--output`` names; UserError if nothing can be written there."""
    if reason := why_not_writable(folder):
        raise UserError(f"--output {folder} cannot be written: {reason}; name another folder")
    return Path(folder)


def files_read(config_file: str | None) -> list[str]:
    """Return a config file, its bases, and the jsons of the data sets that are registered."""
    configs = [config_file] if config_file else []
    if config_file and not config_file.endswith(".py"):
        configs = check_files(config_file, trust_config=True)
    jsons = (MetadataCatalog.get(name).get("json_file") for name in MetadataCatalog.list())
    return configs + [json for json in jsons if json]


def refuse_inputs(output: Path, names: Iterable[str], inputs: Sequence[str]) -> None:
    """Raise a UserError if writing files of these names would replace one of the inputs."""
    for name in names:
        files.refuse_inputs(output / name, inputs)


def check_output_file(path: str) -> None:
    """Make the folder of the file that ``--output`` names; UserError if none can be written."""
    if Path(path).is_dir():
        raise UserError(f"--output {path} is a folder; name a file")
    if reason := why_not_writable(str(Path(path).parent)):
        raise UserError(f"--output {path} cannot be written: {reason}; name another file")


def _parse(kind: type, rule: Rule, text: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if not rule.allows(value):
        raise ArgumentTypeError(f"{shown(text)} is not {rule.words}")
    return value
