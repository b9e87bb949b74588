"""Reads the metadata of a detector: its class names and the size of its input square."""

from __future__ import annotations

from typing import Any

from model_sync.errors import RejectedError

DEFAULT_SIZE = 640  # pixels: the training size of ultralytics unless another one is set


def class_names(names: Any, count: int) -> list[str]:
    """The names of `count` classes, given as a list or as a dict by number. Raises RejectedError."""
    by_number = dict(enumerate(names)) if isinstance(names, list | tuple) else names
    if not isinstance(by_number, dict) or set(by_number) != set(range(count)):
        raise RejectedError(f"it has {count} classes, and its names are {names!r}: each class needs a name")
    return [str(by_number[number]) for number in range(count)]


def square_size(imgsz: Any) -> int:
    """The side of the input square in pixels, given as a number or as (height, width); None means ultralytics' default.

    Raises RejectedError.
    """
    sides = set(imgsz) if isinstance(imgsz, list | tuple) else {DEFAULT_SIZE if imgsz is None else imgsz}
    size = next(iter(sides), None)
    if len(sides) != 1 or not isinstance(size, int) or size < 32 or size % 32:
        raise RejectedError(f"its imgsz is {imgsz!r}: it must be a square whose side is a multiple of 32")
    return size
