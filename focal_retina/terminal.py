"""What may be shown on a terminal, and streams that take all of it."""

import contextlib
import logging
import os
import re
import sys

_COLORS = re.compile(r"(\x1b\[[\d;]*m)")


def printable(text: str) -> str:
    """Return a text with control characters as escapes, so that a terminal does not obey them."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )


def make_output_safe() -> None:
    """Let no character of a line end the program, and no line of a log steer the terminal.

    A stream that is closed swallows what is written; an encoding without a character writes its
    number.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w")  # noqa: SIM115  open until the end
            setattr(sys, name, stream)
        if hasattr(stream, "reconfigure"):
            with contextlib.suppress(OSError):  # of what waits to be written: nobody reads it
                stream.reconfigure(errors="backslashreplace")
    logging.setLogRecordFactory(_PrintableRecord)


class _PrintableRecord(logging.LogRecord):
    def getMessage(self) -> str:  # noqa: N802  logging's name
        text = super().getMessage()
        if self.name.startswith("focal_retina"):
            return printable(text)
        # Detectron2 colours its tables.
        return "".join(x if i % 2 else printable(x) for i, x in enumerate(_COLORS.split(text)))
