"""A registry's version names as the store's, one to one and back.

BentoML takes lower-case letters, digits, `.`, `_` and `-`, a letter or digit at both ends, and at most 63 characters. Such a
name stays as it is, unless it has a `_`, ends in `.` or `-`, or is `latest`, which means something else to BentoML. Elsewhere
every byte (UTF-8) that does not fit is written as `_` and two hex digits, and a name that would begin or be read wrongly gets
`0__` in front: `V1.2+cu` is `0___561.2_2bcu`.
"""

from __future__ import annotations

import re

MAX_CHARACTERS = 63
MARK = "0__"  # no encoded byte begins with `_`, so this can be nothing else
PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789.-")
ENCODED = re.compile(r"(?:[a-z0-9.-]|_[0-9a-f]{2})*")


def to_store(name: str) -> str:
    """The store's name for a registry's version. Raises ValueError for a name that is empty or too long."""
    data = name.encode()
    last = len(data) - 1
    text = "".join(
        chr(byte) if byte in PLAIN and not (position == last and byte in b".-") else f"_{byte:02x}"
        for position, byte in enumerate(data)
    )
    if not text:
        raise ValueError("a version needs a name")
    if not text[0].isalnum() or text == "latest":
        text = MARK + text
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"the version name {name!r} is too long: it takes {len(text)} of {MAX_CHARACTERS} characters here")
    return text


def to_registry(version: str) -> str:
    """The registry's name for the store's. Raises ValueError for a name that `to_store` does not give."""
    text = version.removeprefix(MARK)
    if not ENCODED.fullmatch(text):
        raise ValueError(f"{version!r} is no encoded version name")
    data = re.sub(rb"_([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())
    name = data.decode()
    if to_store(name) != version:
        raise ValueError(f"{version!r} is no encoded version name")
    return name
