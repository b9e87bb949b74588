from __future__ import annotations

import contextlib
import itertools

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from bunriwiki.protocols.grpc import open_inference_pb2 as pb
from bunriwiki.protocols.grpc.bounds import INFER_REQUEST, MAX_OTHER_BYTES, NO_TENSORS, TooMuchError, check
from bunriwiki.protocols.inference.tensors import join_bytes
from tests.bunriwiki.protocols.grpc.hostile import field, hostile, varint

LARGE = 2 * MAX_OTHER_BYTES


def request(*elements: bytes, raw: bool) -> bytes:
    message = pb.ModelInferRequest(model_name="yolo", id="7")
    message.parameters["confidence"].double_param = 0.5
    tensor = message.inputs.add(name="image", datatype="BYTES", shape=[len(elements), 1])
    if raw:
        message.raw_input_contents.append(join_bytes(elements))
    else:
        tensor.contents.bytes_contents.extend(elements)
    return message.SerializeToString()


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("elements", [[b"x" * 10 * 2**20], [b"x" * 1000] * 128], ids=["one", "many"])
def test_elements_of_tensors_may_be_large(elements: list[bytes], raw: bool) -> None:
    check(request(*elements, raw=raw), INFER_REQUEST)


HOSTILE = hostile(LARGE)


@pytest.mark.parametrize("name", HOSTILE)
def test_anything_else_may_not(name: str) -> None:
    with pytest.raises(TooMuchError):
        check(HOSTILE[name], INFER_REQUEST)


def test_where_there_are_no_tensors_nothing_may_be_large() -> None:
    check(field(7, b"x" * (MAX_OTHER_BYTES - 4)), NO_TENSORS)
    with pytest.raises(TooMuchError):
        check(field(7, b"x" * MAX_OTHER_BYTES), NO_TENSORS)


FIELDS = st.one_of(
    st.builds(field, st.sampled_from([1, 2, 3, 7, 100]), st.binary(max_size=40)),
    st.builds(lambda number, value: varint(number << 3) + varint(value), st.integers(1, 200), st.integers(0, 2**64 - 1)),
)


@given(st.lists(FIELDS, max_size=20), st.lists(FIELDS, max_size=20), st.integers(0, 30))
def test_what_protobuf_decodes_is_walked_through(outer: list[bytes], inner: list[bytes], cut: int) -> None:
    """A message that is large, but not hostile, is accepted if protobuf decodes it, and rejected if its fields are broken."""
    message = b"".join([*outer, field(5, b"".join(inner)), field(7, b"x" * LARGE)])
    message = message[: len(message) - cut]
    try:
        pb.ModelInferRequest.FromString(message)
    except DecodeError:
        return  # of a broken text or number within a field, of which the walk knows nothing
    check(message, INFER_REQUEST)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_are_accepted_or_rejected(before: bytes, after: bytes) -> None:
    for message in (before + field(7, b"x" * LARGE) + after, field(5, before + field(5, field(8, b"x" * LARGE) + after))):
        with contextlib.suppress(TooMuchError):
            check(message, INFER_REQUEST)


def test_a_walk_is_short() -> None:
    """The walk ends at its bounds: of 10 MB of fields it reads a few hundred."""

    class Counting(bytes):
        reads = itertools.count()

        def __getitem__(self, place: object) -> int:  # type: ignore[override]
            next(self.reads)
            return super().__getitem__(place)  # type: ignore[call-overload]

    data = Counting(field(7, b"") * 5 * 2**20)
    with pytest.raises(TooMuchError):
        check(data, INFER_REQUEST)
    assert next(data.reads) < 1_000
