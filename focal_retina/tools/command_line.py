"""What the tools have in common: how they explain themselves and report mistakes."""

import argparse
import functools
import sys
from collections.abc import Callable, Sequence

Main = Callable[[Sequence[str] | None], int]


def tool_parser(name: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of ``python -m focal_retina.tools.<name>``."""
    return argparse.ArgumentParser(
        prog=f"python -m focal_retina.tools.{name}",
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
