"""Errors of Detectron2 that are a user's mistake, translated where they are provoked."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from focal_retina.errors import SharedError, UserError


@contextmanager
def weights_errors(key: str, path: str) -> Iterator[None]:
    """Turn what loading unreadable weights raises into a UserError that names the key."""
    try:
        yield
    except SharedError:  # of the checkpoint to resume from, which it names
        raise
    except (AssertionError, OSError, UserError) as error:
        # fvcore asserts that there is a file.
        of_the_file = re.match("Checkpoint .* not found!", str(error), re.DOTALL)
        if isinstance(error, AssertionError) and not of_the_file:
            raise
        raise UserError(f"{key} {path} cannot be loaded: {error}") from error


@contextmanager
def empty_data_errors(names: Sequence[str], filter_key: str) -> Iterator[None]:
    """Turn what Detectron2 raises where it filters all images into a UserError with the remedy."""
    try:
        yield
    except AssertionError as error:
        if not str(error).startswith("No valid data found"):
            raise
        raise UserError(
            f"dataset {' and '.join(names)}: no image has an object to learn; if that is on "
            f"purpose, set {filter_key} to False to train on images without objects"
        ) from error
