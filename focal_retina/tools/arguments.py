"""What tools take on their command lines: numbers within bounds, files to write."""

import tempfile
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from focal_retina.engine.rules import Rule, number, shown, whole


def count(least: int = 1, most: int = 2**31 - 1) -> Callable[[str], int]:
    """Return an argparse type: a whole number within the bounds."""
    return _argument(int, whole(least, most))


def share() -> Callable[[str], float]:
    """Return an argparse type: a number from 0 to 1."""
    return _argument(float, number(0, 1))


def check_output_file(path: str) -> None:
    """Make the folder of a file to write; ValueError where nothing can be written there."""
    folder = Path(path).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"--output {path} cannot be written: {error.strerror}") from error
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
