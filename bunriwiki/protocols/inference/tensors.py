"""The tensors of the protocol, in whichever form they came over the wire."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from bunriwiki.web import problems

LENGTH = struct.Struct("<I")  # before each element of a BYTES tensor in its raw form
MAX_DIMENSIONS = 8
MAX_ELEMENTS = 128
MAX_INPUTS = 8

Parameter: TypeAlias = bool | int | float | str  # the value of a parameter, of a request or of a tensor
Data: TypeAlias = list[bytes] | npt.NDArray[np.float32] | npt.NDArray[np.int32] | npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or an output of a model; -1 in the shape stands for any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor; `data` is flat, in row-major order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Data
    parameters: dict[str, str] = field(default_factory=dict)


def elements(name: str, shape: Sequence[int]) -> int:
    """The number of elements of an input of this shape. Raises RequestError for a shape that no input may have."""
    if len(shape) > MAX_DIMENSIONS:
        raise problems.broken(f"The shape of input {name[:40]!r} has {len(shape)} dimensions.")
    if any(size < 0 for size in shape):
        raise problems.broken(f"The shape of input {name[:40]!r} has a negative size.")
    if 0 in shape:
        return 0
    count = 1
    for size in shape:
        count *= size
        if count > MAX_ELEMENTS:
            raise problems.too_large(f"Input {name[:40]!r} is too long: at most {MAX_ELEMENTS} elements go in one call.")
    return count


def split_bytes(name: str, raw: bytes | memoryview, count: int) -> list[bytes]:
    """The `count` elements of a BYTES tensor in its raw form, each after its length in four bytes. Raises RequestError."""
    found: list[bytes] = []
    place = 0
    while place < len(raw) and len(found) < count:
        if len(raw) - place < LENGTH.size:
            break
        (size,) = LENGTH.unpack_from(raw, place)
        place += LENGTH.size
        if size > len(raw) - place:
            raise problems.broken(
                f"An element of input {name[:40]!r} states a length of {size} bytes, but only {len(raw) - place} follow."
            )
        found.append(bytes(raw[place : place + size]))
        place += size
    if len(found) != count or place != len(raw):
        raise problems.broken(f"The bytes of input {name[:40]!r} do not hold the {count} elements of its shape.")
    return found


def join_bytes(items: Sequence[bytes]) -> bytes:
    """A BYTES tensor in its raw form."""
    return b"".join(LENGTH.pack(len(item)) + item for item in items)


def to_raw(tensor: Tensor) -> bytes:
    """A tensor in its raw form: little-endian, row-major."""
    if isinstance(tensor.data, np.ndarray):
        return tensor.data.astype(tensor.data.dtype.newbyteorder("<")).tobytes()
    return join_bytes(tensor.data)
