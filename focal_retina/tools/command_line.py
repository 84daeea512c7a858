"""What the tools have in common: arguments, how they explain themselves and report mistakes."""

import argparse
import functools
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from pathlib import Path

from focal_retina.errors import shown
from focal_retina.settings.machine import why_not_writable
from focal_retina.settings.rules import Rule, number, whole

Main = Callable[[Sequence[str] | None], int]


def tool_parser(
    name: str, description: str, package: str = "focal_retina.tools"
) -> argparse.ArgumentParser:
    """Return the parser of ``python -m package.name``."""
    return argparse.ArgumentParser(
        prog=f"python -m {package}.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def mistakes_in_one_sentence(name: str) -> Callable[[Main], Main]:
    """Let a tool's main print what is wrong with its arguments or files, and return 2."""

    def decorate(main: Main) -> Main:
        @functools.wraps(main)
        def run(argv: Sequence[str] | None = None) -> int:
            try:
                return main(argv)
            except (ValueError, OSError, ImportError) as error:
                print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
                return 2

        return run

    return decorate


def add_detector_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``Predictor`` takes: --config-file, --weights and --opts."""
    parser.add_argument("--config-file", required=True, help=".yaml, or .py for a LazyConfig")
    parser.add_argument("--weights", help="in the place of the config's")
    parser.add_argument(
        "--opts",
        nargs="+",
        default=[],
        metavar="KEY VALUE",
        help="config keys; KEY=VALUE for a LazyConfig",
    )


def count(least: int = 1, most: int = 2**31 - 1) -> Callable[[str], int]:
    """Return an argparse type: a whole number within the bounds."""
    return _argument(int, whole(least, most))


def share() -> Callable[[str], float]:
    """Return an argparse type: a number from 0 to 1."""
    return _argument(float, number(0, 1))


def check_output_file(path: str) -> None:
    """Make the folder of a file to write; ValueError where nothing can be written there."""
    if reason := why_not_writable(str(Path(path).parent)):
        raise ValueError(f"--output {path} cannot be written: {reason}")
    if Path(path).is_dir():
        raise ValueError(f"--output {path} is a folder; name a file")


def _argument(kind: type, rule: Rule) -> Callable:
    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if not rule.allows(value):
            raise ArgumentTypeError(f"{shown(text)} is not {rule.words}")
        return value

    return parse
