"""What ends a run other than a bug, and how it is worded."""

import difflib
import functools
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from reprlib import Repr

from focal_retina.terminal import make_output_safe, printable

Main = Callable[[Sequence[str] | None], int]

_LONGEST_SENTENCE = 1000  # characters
_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxdict = 3, 8, 8, 4
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


class UserError(ValueError):
    """A mistake that only the user can mend; the message is one sentence that says how.

    It ends a program, see :func:`report`. Every other exception is a bug and keeps its traceback.
    """

    status = 2


class SharedError(UserError):
    """A user's mistake that all processes of a run raise together: the main one reports it."""


class ImageError(UserError):
    """An image cannot be used; the message names its file."""

    def __init__(self, message: str):
        # A worker of a data loader sends its whole traceback, with the sentence at its end.
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


class MissingExtraError(UserError, ImportError):
    """An optional package is missing; the message names the extra that installs it."""


class TrainingError(Exception):
    """A training cannot go on, through no bug; the message is one sentence."""

    status = 3


class TrainingStopped(Exception):  # noqa: N818  no error, as StopIteration is none
    """A hook ends a run that has done all it should; the message says why."""


def report(error: UserError | TrainingError, program: str | None = None) -> int:
    """Print an error of ``program`` or else the running script; return the exit status."""
    program = program or os.path.basename(sys.argv[0])
    sentence = shortened(printable(" ".join(str(error).split())), _LONGEST_SENTENCE)
    print(f"{program}: error: {sentence}", file=sys.stderr)
    return error.status


def reports_errors(program: str) -> Callable[[Main], Main]:
    """Decorate the ``main`` of a tool: let it report a UserError or TrainingError.

    What it prints then cannot fail, see ``make_output_safe``.
    """

    def decorate(main: Main) -> Main:
        @functools.wraps(main)
        def run(argv: Sequence[str] | None = None) -> int:
            make_output_safe()
            try:
                return main(argv)
            except (UserError, TrainingError) as error:
                return report(error, program)

        return run

    return decorate


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that suggests the known name closest to ``name``, if any is."""
    # A key in the wrong place is a likelier mistake than one misspelt, and ours are RetinaNets.
    close = sorted((k for k in known if k.endswith(f".{name}")), key=lambda k: "RETINA" not in k)
    close = close or difflib.get_close_matches(name, known)
    return f"; did you mean {close[0]}?" if close else ""


def shown(value: object) -> str:
    """Return ``repr(value)``, its middle left out where it is long."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python writes no whole number of so many digits
        return "a number of thousands of digits"


def shortened(sentence: str, length: int = 80) -> str:
    """Return a text without what exceeds a length."""
    return sentence if len(sentence) <= length else sentence[: length - 3] + "..."


def require(is_right: bool, name: str, value: object, limit: str) -> None:
    """Raise the UserError "``name`` is ``value``; it must ``limit``" unless ``is_right``."""
    if not is_right:
        raise UserError(f"{name} is {shown(value)}; it must {limit}")


def require_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise a UserError that names the choices unless the value is one of them."""
    if value not in choices:
        raise UserError(f"{name} is {shown(value)}; choose one of {', '.join(choices)}")
