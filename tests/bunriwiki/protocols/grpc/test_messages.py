from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from bunriwiki.protocols.grpc import open_inference_pb2 as pb
from bunriwiki.protocols.grpc.messages import read_request, write_response
from bunriwiki.protocols.inference.handlers import InferResponse
from bunriwiki.protocols.inference.models import MODEL_TENSORS
from bunriwiki.web.problems import RequestError

TENSORS = {tensors.spec.name: tensors for tensors in MODEL_TENSORS}
NAMES = st.sampled_from(["text", "image", "", "x" * 100])


@st.composite
def requests(draw: st.DrawFn) -> pb.ModelInferRequest:
    """Requests that are nearly right, or not at all."""
    request = pb.ModelInferRequest(model_name="kcbert")
    for _ in range(draw(st.integers(0, 2))):
        tensor = request.inputs.add(name=draw(NAMES), datatype=draw(st.sampled_from(["BYTES", "FP32", "", "NONSENSE"])))
        tensor.shape.extend(draw(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3), max_size=3)))
        tensor.contents.bytes_contents.extend(draw(st.lists(st.binary(max_size=8), max_size=3)))
    request.raw_input_contents.extend(draw(st.lists(st.binary(max_size=20), max_size=2)))
    for name in draw(st.lists(NAMES, max_size=2)):
        request.parameters[name].double_param = draw(st.floats())
    return request


@given(requests(), st.sampled_from(["yolo", "kcbert"]))
def test_whatever_comes_is_read_or_rejected(request: pb.ModelInferRequest, model: str) -> None:
    try:
        call = read_request(request)
        inputs: list[Any] = TENSORS[model].read_request(call.inputs, call.parameters)
    except RequestError as error:
        assert error.status in (400, 413)
        assert error.detail
    else:
        assert inputs


@given(st.binary(max_size=300))
def test_bytes_that_are_no_message(data: bytes) -> None:
    try:
        request = pb.ModelInferRequest.FromString(data)
    except DecodeError:
        return
    try:
        read_request(request)
    except RequestError as error:
        assert error.status in (400, 413)


def test_the_parameters_of_a_response() -> None:
    response = InferResponse("kcbert", "v1", "", [], {"feedback_tickets": "one,two"})
    assert write_response(response, raw=False).parameters["feedback_tickets"].string_param == "one,two"
    assert not write_response(InferResponse("kcbert", "v1", "", []), raw=False).parameters


@pytest.mark.parametrize(
    ("given", "known_by"), [("my-request", "my-request"), ("no id: a space", ""), ("", ""), ("x" * 129, "")]
)
def test_the_id_of_a_message_is_the_id_of_the_request_if_it_is_one(given: str, known_by: str) -> None:
    call = read_request(pb.ModelInferRequest(id=given))
    assert (call.id, call.request_id) == (given, known_by)


def test_raw_and_typed_contents_do_not_mix() -> None:
    request = pb.ModelInferRequest(raw_input_contents=[b"\x00\x00\x00\x00"])
    request.inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"a")
    with pytest.raises(RequestError, match="both contents"):
        read_request(request)
