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
    # matplotlib, which brings DejaVu Sans, is imported late: that takes a while.
    text = "".join(c for c in "".join(names) if c.isprintable() and not c.isspace())
    fonts = iter([file]) if file else _system_fonts()
    font = first = next(fonts)
    lacking = first_lacking = _lacking(first, text, file is not None)
    while lacking and (font := next(fonts, "")):
        lacking = _lacking(font, text)
    if font:
        return font
    logger.warning(
        "%s lacks letters of the class names (%s): name a font that has them with --font",
        first,
        shown("".join(first_lacking)),
    )
    return first


def _system_fonts() -> Iterator[str]:
    import matplotlib as mpl

    yield str(Path(mpl.get_data_path(), "fonts/ttf/DejaVuSans.ttf"))
    from matplotlib.font_manager import findSystemFonts

    yield from sorted(findSystemFonts())


def _lacking(file: str, text: str, is_named: bool = False) -> list[str]:
    """Return the letters of a text that a font lacks."""
    from matplotlib.ft2font import FT2Font

    try:
        ImageFont.truetype(file)
        charmap = FT2Font(file).get_charmap()
    except (OSError, RuntimeError) as error:
        if is_named:
            raise UserError(f"--font {file} cannot be read as a font: {error}") from error
        return list(text)
    return [c for c in dict.fromkeys(text) if ord(c) not in charmap]
