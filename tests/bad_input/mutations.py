"""Random damage to the content of a file: its bytes, tokens of a text, parts of a container."""

import io
import re
import zipfile
import zlib
from random import Random

# What a number or a word of a text becomes.
TOKENS = [
    *("0", "-1", "1e400", "NaN", "-Infinity", "9" * 400, "0x" + "f" * 40, "4294967296", "1.5"),
    *("null", "true", "[]", "{}", "[[[]]]", '""', '"\\u0000"', '"\\ud800"', "text", "&a", "*a"),
    *("!!int ''", "!!python/name:os.system", "<<", "_BASE_", "../../etc/passwd", "http://a/b", "é"),
    *(
        "<a>",
        "</a>",
        "&amp;",
        "&x;",
        "<!--",
        "<![CDATA[",
        '<?xml version="1.0" encoding="gb2312"?>',
    ),
]
# What 1 to 8 bytes of a binary file become: lengths, counts and offsets.
WORDS = [b"\0", b"\xff", b"\xff" * 4, b"\xff" * 8, b"\0\0\0\x40", b"\0" * 7 + b"\x7f", b"\x80"]
_TOKEN = re.compile(rb"-?[\w.]+|\"[^\"]*\"|[\[\]{}<>]")


def mutated(content: bytes, random: Random, is_text: bool) -> bytes:
    """Return the content with one to three pieces of damage."""
    for _ in range(random.choice([1, 1, 2, 3])):
        change = random.choice(TEXT_CHANGES if is_text else BINARY_CHANGES)
        content = change(content, random)
    return content


def mutated_parts(content: bytes, random: Random) -> bytes:
    """Return a zip file with damage to one of its parts, whose checksum fits all the same."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(result, "w") as new:
        names = old.namelist()
        # Half of the damage is to what names and shapes the numbers.
        chosen = random.choice([names[0], random.choice(names)])
        for name in names:
            part = old.read(name)
            new.writestr(name, mutated(part, random, False) if name == chosen else part)
    return result.getvalue()


def mutated_chunk(content: bytes, random: Random) -> bytes:
    """Return a PNG file with damage to one of its chunks, whose checksum fits all the same."""
    starts, at = [], 8
    while at < len(content):
        starts.append(at)
        at += 12 + int.from_bytes(content[at : at + 4], "big")
    at = random.choice(starts)
    end = at + 8 + int.from_bytes(content[at : at + 4], "big")
    data = mutated(content[at + 8 : end], random, False)
    chunk = content[at + 4 : at + 8] + data
    checksum = zlib.crc32(chunk).to_bytes(4, "big")
    return content[:at] + len(data).to_bytes(4, "big") + chunk + checksum + content[end + 4 :]


def _cut(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _remove(content: bytes, random: Random) -> bytes:
    start, end = _span(content, random)
    return content[:start] + content[end:]


def _repeat(content: bytes, random: Random) -> bytes:
    start, end = _span(content, random)
    return content[:end] + content[start:end] * random.choice([1, 2, 30]) + content[end:]


def _move(content: bytes, random: Random) -> bytes:
    start, end = _span(content, random)
    rest = content[:start] + content[end:]
    place = random.randrange(len(rest) + 1)
    return rest[:place] + content[start:end] + rest[place:]


def _insert(content: bytes, random: Random) -> bytes:
    place = random.randrange(len(content) + 1)
    return content[:place] + random.randbytes(random.randrange(1, 9)) + content[place:]


def _overwrite(content: bytes, random: Random) -> bytes:
    place, word = random.randrange(len(content) + 1), random.choice(WORDS)
    return content[:place] + word + content[place + len(word) :]


def _flip(content: bytes, random: Random) -> bytes:
    place, bit = random.randrange(len(content) or 1), 1 << random.randrange(8)
    return (
        content[:place]
        + bytes([b ^ bit for b in content[place : place + 1]])
        + content[place + 1 :]
    )


def _replace_token(content: bytes, random: Random) -> bytes:
    tokens = [*_TOKEN.finditer(content)]
    if not tokens:
        return content
    token = random.choice(tokens)
    return content[: token.start()] + random.choice(TOKENS).encode() + content[token.end() :]


def _exchange_tokens(content: bytes, random: Random) -> bytes:
    tokens = [*_TOKEN.finditer(content)]
    if len(tokens) < 2:
        return content
    a, b = sorted(random.sample(tokens, 2), key=re.Match.start)
    between = content[a.end() : b.start()]
    return content[: a.start()] + b[0] + between + a[0] + content[b.end() :]


def _span(content: bytes, random: Random) -> tuple[int, int]:
    start = random.randrange(len(content) + 1)
    return start, min(len(content), start + random.choice([1, 4, 30, 300]))


BINARY_CHANGES = [_cut, _remove, _repeat, _move, _insert, _overwrite, _overwrite, _flip, _flip]
TEXT_CHANGES = [
    _cut,
    _remove,
    _repeat,
    _move,
    _insert,
    _flip,
    *[_replace_token] * 6,
    _exchange_tokens,
]
