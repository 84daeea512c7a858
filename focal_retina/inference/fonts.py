"""A font that has the letters of the class names."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import ImageFont

from focal_retina.errors import UserError, shown

logger = logging.getLogger(__name__)


def label_font(names: Iterable[str], file: str | None = None) -> str:
    """Return the file of a font for names: the given one, DejaVu Sans, or one of the system.

    Where it lacks letters, a line of the log says so.

    Raises:
        UserError: the given file is no font.
    """
    try:
        fonts = [ImageFont.truetype(file).path] if file else _system_fonts()
    except OSError as error:
        raise UserError(f"--font {file} cannot be read as a font: {error}") from error
    text = "".join(c for c in dict.fromkeys("".join(names)) if c.isprintable() and c != " ")
    lacking = {}
    for font in fonts:
        lacking[font] = _lacking(font, text)
        if not lacking[font]:
            return font
    first = next(iter(lacking))
    letters = shown("".join(lacking[first]))
    logger.warning(f"{first} lacks letters of the class names, {letters}: name a --font with them")
    return first


def _system_fonts() -> Iterator[str]:
    import matplotlib as mpl  # takes a while, and tools should start fast

    yield str(Path(mpl.get_data_path(), "fonts/ttf/DejaVuSans.ttf"))
    from matplotlib.font_manager import findSystemFonts

    yield from sorted(findSystemFonts())


def _lacking(font: str, text: str) -> list[str]:
    """Return the letters of a text that a font lacks."""
    from matplotlib.ft2font import FT2Font

    try:
        letters = FT2Font(font).get_charmap()
    except (OSError, RuntimeError):  # one of the system's is of another kind
        return list(text)
    return [c for c in text if ord(c) not in letters]
