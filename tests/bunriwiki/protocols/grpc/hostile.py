"""Messages that are made to cost more than they should."""

from __future__ import annotations


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])


def field(number: int, content: bytes) -> bytes:
    """A field with bytes or a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def hostile(size: int) -> dict[str, bytes]:
    """Messages for `ModelInfer` of about `size` bytes or a few times as much, by what is in them."""
    return {
        "inputs": field(5, b"") * size,
        "outputs": field(6, b"") * size,
        "parameters": b"".join(field(4, field(1, b"%x" % number) + field(2, b"")) for number in range(size // 8)),
        "parameters of an input": field(5, field(4, field(1, b"a") + field(2, b"")) * size),
        "shape, packed": field(5, field(3, b"\1" * size)),
        "shape": field(5, (varint(3 << 3) + b"\1") * size),
        "integers": field(5, field(5, field(3, b"\1" * size))),
        "empty elements": field(5, field(5, field(8, b"") * size)),
        "empty raw elements": field(7, b"") * size,
        "a name": field(1, b"a" * size),
        "an unknown field": field(100, b"a" * size),
        "unknown numbers": (varint(100 << 3) + b"\1") * size,
        "fixed numbers": (varint(100 << 3 | 1) + b"\1" * 8 + varint(101 << 3 | 5) + b"\1" * 4) * size,
        "groups": varint(100 << 3 | 3) * size + varint(100 << 3 | 4) * size,
        "a long number": b"\xff" * size,
        "a length that no message has": field(7, b"x" * size) + varint(7 << 3 | 2) + varint(2**63),
        "an element that is cut off": field(7, b"x" * size)[:-1],
        "a tag that is cut off": field(7, b"x" * size) + b"\x80",
        "an input that is cut off": field(7, b"x" * size) + varint(5 << 3 | 2) + varint(9) + field(1, b"a"),
    }
