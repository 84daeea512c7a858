"""Find the file that a wrong name means."""

import os
import unicodedata
from collections.abc import Callable, Iterator
from urllib.parse import unquote

_MOST_FOLDERS = 50  # of a name whose repeats are looked for, each of each
Listing = Callable[[str], dict[str, str]]


def names_in(folder: str) -> dict[str, str]:
    """Return the names in a folder by what :func:`file_meant` compares; none if it is not there."""
    try:
        return {_key(name): name for name in os.listdir(folder or ".")}
    except OSError:
        return {}


def file_meant(path: str | os.PathLike, listing: Listing = names_in) -> str:
    """Return the end of a sentence that names the file which a missing ``path`` means, or "".

    Its name differs by case, backslashes, escapes (%20), composed accents or repeated folders.

    Args:
        listing: :func:`names_in`, or a cache of it where many files are missing.
    """
    wrong = os.fspath(path)
    for parts in _without_repeats(os.path.normpath(unquote(wrong).replace("\\", "/")).split("/")):
        found = _find(parts, listing)
        if found and unicodedata.normalize("NFC", found) == unicodedata.normalize("NFC", wrong):
            return f"; there is {found}, whose accents are composed of other characters"
        if found:
            return f"; there is {found}"
    return ""


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", unquote(name).casefold()).strip()


def _without_repeats(parts: list[str]) -> Iterator[list[str]]:
    """Yield the parts of a path, and then without each run of folders that is there twice."""
    yield parts
    if len(parts) > _MOST_FOLDERS:
        return
    keys = [_key(part) for part in parts]
    for length in range(1, len(parts) // 2 + 1):
        for i in range(len(parts) - 2 * length):
            if keys[i : i + length] == keys[i + length : i + 2 * length]:
                yield parts[:i] + parts[i + length :]


def _find(parts: list[str], listing: Listing) -> str | None:
    found = ""
    for part in parts:
        exact = os.path.join(found, part or "/")
        if os.path.exists(exact):
            found = exact
        elif name := listing(found).get(_key(part)):
            found = os.path.join(found, name)
        else:
            return None
    return found if os.path.isfile(found) else None
