"""The bound on JSON from the network, before anything is made of it."""

from __future__ import annotations

from bunriwiki.web import problems

MAX_VALUES = 1_000
MARKS = (b",", b"[", b"{")  # each value but the outermost follows one of them


def check_values(body: bytes) -> None:
    """Raises RequestError with status 413 if the JSON may have more than `MAX_VALUES` values, whatever its types.

    A parser makes an object of each value, which takes up to 100 times the value's bytes. Marks in strings count as well.
    """
    if len(body) > MAX_VALUES and sum(map(body.count, MARKS)) > MAX_VALUES:
        raise problems.too_large(f"The JSON has more than {MAX_VALUES} values. Send a smaller body.")
