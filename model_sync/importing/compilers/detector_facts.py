"""What the file of a detector says of itself: its class names and the size of its square."""

from __future__ import annotations

from typing import Any

from model_sync.errors import RejectedError

USUAL_SIZE = 640  # pixels: what ultralytics trains with where nothing else is said


def class_names(said: Any, count: int) -> list[str]:
    """The names of `count` classes, said as a list or as a dict by number. Raises RejectedError."""
    by_number = dict(enumerate(said)) if isinstance(said, list | tuple) else said
    if not isinstance(by_number, dict) or set(by_number) != set(range(count)):
        raise RejectedError(f"it has {count} classes, and its names are {said!r}: there has to be one for each")
    return [str(by_number[number]) for number in range(count)]


def square_size(said: Any) -> int:
    """The side of the square in pixels, said as a number or as (height, width); None means ultralytics' own.

    Raises RejectedError.
    """
    sides = set(said) if isinstance(said, list | tuple) else {USUAL_SIZE if said is None else said}
    size = next(iter(sides), None)
    if len(sides) != 1 or not isinstance(size, int) or size < 32 or size % 32:
        raise RejectedError(f"its imgsz is {said!r}: photos are looked at as a square whose side is a multiple of 32")
    return size
