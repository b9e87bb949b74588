"""Encodes the version names of a registry as names for the store, and decodes them.

BentoML accepts lower-case letters, digits, `.`, `_` and `-`, with a letter or digit at both ends, and at most 63 characters. A
name of this form stays as it is, unless it contains `_` or is reserved: `latest` has a special meaning in BentoML, and
`fallback` in the generation file. In all other names every UTF-8 byte that is not allowed is written as `_` and two hex digits.
A result that does not begin with a letter or digit, or is reserved, gets the prefix `0__`: `V1.2+cu` becomes `0___561.2_2bcu`.
"""

from __future__ import annotations

import re

FALLBACK = "fallback"  # the bundled version, whatever its own name is: sidecar and data plane may bundle different ones
FALLBACK_SOURCE = "bundled"  # where it comes from
RESERVED = frozenset({"latest", FALLBACK})

MAX_CHARACTERS = 63
MARK = "0__"  # unambiguous: in an encoded name `_` is never followed by `_`
PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789.-")
ENCODED = re.compile(r"(?:[a-z0-9.-]|_[0-9a-f]{2})*")


def to_store(name: str) -> str:
    """The store's name for a registry's version. Raises ValueError if `name` is empty or too long."""
    data = name.encode()
    last = len(data) - 1
    text = "".join(
        chr(byte) if byte in PLAIN and not (position == last and byte in b".-") else f"_{byte:02x}"
        for position, byte in enumerate(data)
    )
    if not text:
        raise ValueError("a version needs a name")
    if not text[0].isalnum() or text in RESERVED:
        text = MARK + text
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"the version name {name!r} is too long: encoded it has {len(text)} of {MAX_CHARACTERS} characters")
    return text


def to_registry(version: str) -> str:
    """The registry's name for a version of the store. Raises ValueError if `to_store` never returns `version`."""
    text = version.removeprefix(MARK)
    if not ENCODED.fullmatch(text):
        raise ValueError(f"{version!r} is not an encoded version name")
    data = re.sub(rb"_([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())
    name = data.decode()
    if to_store(name) != version:
        raise ValueError(f"{version!r} is not an encoded version name")
    return name
