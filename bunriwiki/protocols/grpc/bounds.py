"""The bound on a message before it is decoded.

protobuf makes an object of each field, which takes up to 46 times the field's bytes. So a message may have many bytes only as
elements of BYTES tensors, which are copied as they are, and few of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from bunriwiki.protocols.grpc import open_inference_pb2 as pb
from bunriwiki.protocols.inference.tensors import MAX_ELEMENTS, MAX_INPUTS

MAX_OTHER_BYTES = 8 * 2**10  # of a message, besides the elements of tensors
MAX_FIELDS = MAX_ELEMENTS + MAX_INPUTS + 64  # that are walked through, nested ones included
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
FIXED = {FIXED64: 8, FIXED32: 4}

# The fields of a message that hold others, by their numbers; None: the field is an element of a tensor.
Layout: TypeAlias = Mapping[int, "Layout | None"]


def _number(message: type, field: str) -> int:
    return int(message.DESCRIPTOR.fields_by_name[field].number)  # type: ignore[attr-defined]


INFER_REQUEST: Layout = {
    _number(pb.ModelInferRequest, "raw_input_contents"): None,
    _number(pb.ModelInferRequest, "inputs"): {
        _number(pb.ModelInferRequest.InferInputTensor, "contents"): {_number(pb.InferTensorContents, "bytes_contents"): None}
    },
}
NO_TENSORS: Layout = {}


class TooMuchError(ValueError):
    """The message has more besides the elements of tensors than is accepted, or it is malformed."""


def check(data: bytes, layout: Layout) -> None:
    """Raises TooMuchError unless the message has at most `MAX_OTHER_BYTES` besides the elements of tensors in `layout`.

    The time is bounded by MAX_FIELDS, not by the size of the message.
    """
    if len(data) <= MAX_OTHER_BYTES:
        return
    try:
        walk = _Walk(data)
        walk.message(0, len(data), layout)
    except IndexError:
        raise TooMuchError from None


class _Walk:
    """Walks through the fields of a message without decoding them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._fields = 0
        self._other = 0

    def message(self, start: int, end: int, layout: Layout) -> None:
        place = start
        while place < end:
            begun = place
            tag, place = self._varint(place)
            kind = tag & 7
            inner = layout.get(tag >> 3, NO_TENSORS) if kind == BYTES else NO_TENSORS
            if kind == BYTES:
                size, place = self._varint(place)
                if inner:
                    self.message(place, min(place + size, end), inner)
                place += size
            elif kind == VARINT:
                _, place = self._varint(place)
            else:
                place += FIXED.get(kind, end)  # groups do not exist in these messages
            if place > end:
                raise TooMuchError
            self._count(0 if inner is None or inner else place - begun)

    def _count(self, other: int) -> None:
        self._fields += 1
        self._other += other
        if self._fields > MAX_FIELDS or self._other > MAX_OTHER_BYTES:
            raise TooMuchError

    def _varint(self, place: int) -> tuple[int, int]:
        value = shift = 0
        while shift < 70:  # ten bytes
            byte = self._data[place]
            place += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, place
            shift += 7
        raise TooMuchError
