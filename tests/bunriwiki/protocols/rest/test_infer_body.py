from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from bunriwiki.protocols.inference.handlers import InferRequest
from bunriwiki.protocols.rest.infer_body import JSON_LENGTH, RawOutputs, read_infer_request
from bunriwiki.protocols.rest.requests import Request
from bunriwiki.web.problems import RequestError

DEEP = b"[" * 100_000


def read(body: bytes | dict[str, Any], headers: dict[str, str] | None = None) -> tuple[InferRequest, RawOutputs]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_infer_request(Request(Headers(headers), content, path_params={"model": "kcbert"}, request_id="r"))


def text(*data: Any, **more: Any) -> dict[str, Any]:
    return {"name": "text", "datatype": "BYTES", "shape": [len(data)], "data": list(data), **more}


def test_all_fields() -> None:
    tensor = text("가", '"', parameters={"content_type": "str"})
    outputs = [{"name": "label", "parameters": {"binary_data": True}}, {"name": "score", "data": [[1]]}]
    request, raw = read({"id": "7", "parameters": {"timeout": 5}, "inputs": [tensor], "outputs": outputs, "more": [{}]})
    assert (request.id, request.request_id, request.parameters, request.outputs) == (
        "7",
        "r",
        {"timeout": 5},
        ["label", "score"],
    )
    [tensor_read] = request.inputs
    assert (tensor_read.name, tensor_read.datatype, tensor_read.shape, tensor_read.data) == (
        "text",
        "BYTES",
        (2,),
        ["가".encode(), b'"'],
    )
    assert [raw.wants(name) for name in ("label", "score", "scores")] == [True, False, False]


def test_all_outputs_may_be_wanted_raw() -> None:
    request, raw = read({"parameters": {"binary_data_output": True}, "inputs": [text("a")], "outputs": [{"name": "label"}]})
    assert request.parameters == {}
    assert raw.wants("label")


def test_elements_may_have_their_own_brackets() -> None:
    [tensor] = read({"inputs": [text(["a"], ["b"], shape=[2, 1])]})[0].inputs
    assert tensor.data == [b"a", b"b"]
    encoded = base64.b64encode(b"\xff").decode()
    [tensor] = read({"inputs": [text([encoded], encoded, parameters={"content_type": "base64"})]})[0].inputs
    assert tensor.data == [b"\xff", b"\xff"]


def test_the_body_is_freed() -> None:
    request = Request(Headers(), json.dumps({"inputs": [text("a")]}).encode(), path_params={"model": "kcbert"})
    read_infer_request(request)
    assert request.body == b""


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "not valid JSON"),
        (b'{"inputs": [\xff]}', 400, "not valid JSON"),
        (b'{"id": "\xff", "inputs": [{"name": "a", "datatype": "", "shape": [1], "data": ["a"]}]}', 400, "not valid JSON"),
        (DEEP, 400, "The body is wrong"),
        (b'{"more": ' + DEEP, 400, "nested too deeply"),
        ({}, 400, "missing required field `inputs`"),
        ({"inputs": []}, 400, "takes one"),
        ({"inputs": [text("a")] * 2}, 400, "takes one"),
        ({"inputs": [{"name": "text"}]}, 400, "missing required field `datatype`"),
        ({"inputs": [text("a", name=1)]}, 400, r"'inputs\.0\.name'"),
        ({"inputs": [text("a", name="a" * 4096)]}, 413, r"'inputs\.0\.name' has more than 4096 bytes"),
        ({"inputs": [text("a", shape=[1] * 2000)]}, 413, r"'inputs\.0\.shape' has more"),
        ({"inputs": [text("a", shape="1")]}, 400, r"'inputs\.0\.shape'"),
        ({"inputs": [text("a", shape=[2])]}, 400, "has not the 2 elements"),
        ({"inputs": [text("a", "b", shape=[1])]}, 400, "has not the 1 elements"),
        ({"inputs": [text(*["a"] * 129)]}, 413, "at most 128"),
        ({"inputs": [text(1)]}, 400, "must be strings"),
        ({"inputs": [text([["a"]])]}, 400, "must be strings"),
        ({"inputs": [text("a", data=None)]}, 400, "has no data"),
        ({"inputs": [text("x" * 200_000)]}, 413, "too long for a text"),
        ({"inputs": [text("?", parameters={"content_type": "base64"})]}, 400, "not valid base64"),
        ({"inputs": [text("a")], "parameters": {"a": {"b": 1}}}, 400, "'parameters' is wrong"),
        ({"inputs": [text("a")], "parameters": {"a": None}}, 400, "'parameters' is wrong"),
        ({"inputs": [text("a")], "parameters": {str(number): 1 for number in range(17)}}, 400, "17 parameters"),
        ({"inputs": [text("a")], "parameters": {"a": "b" * 4096}}, 413, "'parameters' has more"),
        ({"inputs": [text("a")], "outputs": [{"name": "a"}] * 9}, 400, "9 outputs"),
        ({"inputs": [text("a")], "outputs": [{"name": "a"}] * 1000}, 413, "'outputs' has more"),
        ({"inputs": [text("a")], "id": "a" * 4096}, 413, "'id' has more"),
        ({"inputs": [text("a", parameters={"binary_data_size": 3})]}, 400, "binary_data_size"),
    ],
)
def test_what_is_rejected(body: bytes | dict[str, Any], status: int, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        read(body)
    assert caught.value.status == status


def test_bytes_after_the_json_belong_to_the_input() -> None:
    head = json.dumps({"inputs": [text("a")]}).encode()
    with pytest.raises(RequestError, match="belong to no input"):
        read(head + b"x", {JSON_LENGTH: str(len(head))})


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5), st.dictionaries(st.text(), JSONS))
def test_texts_are_read_as_they_were_written(texts: list[str], more: dict[str, Any]) -> None:
    known = ("id", "parameters", "outputs")
    body = {name: value for name, value in more.items() if name not in known} | {"inputs": [text(*texts)]}
    for content in (json.dumps(body), json.dumps(body, ensure_ascii=False, indent=1)):
        [tensor] = read(content.encode("utf-8", "surrogatepass"))[0].inputs
        assert tensor.data == [text.encode() for text in texts]


@given(st.dictionaries(st.sampled_from(["id", "parameters", "inputs", "outputs", "x"]), JSONS))
def test_any_json_is_read_or_rejected(body: dict[str, Any]) -> None:
    try:
        read(body)
    except RequestError as error:
        assert error.status in (400, 413)
