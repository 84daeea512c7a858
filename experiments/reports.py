"""What the reports of all experiments share: an output folder and Markdown tables."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from tabulate import tabulate

from focal_retina.errors import UserError
from focal_retina.settings.checks import why_not_writable


def make_output_folder(folder: str) -> Path:
    """Make the folder that ``--output`` names, and return its path.

    Raises:
        UserError: nothing can be written there.
    """
    if reason := why_not_writable(folder):
        raise UserError(f"--output {folder} cannot be written: {reason}; name another folder")
    return Path(folder)


def markdown_table(rows: Iterable[Sequence], headers: Sequence[str]) -> str:
    """Return a table in Markdown, its cells as they are."""
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)
