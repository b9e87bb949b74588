"""Bytes in, cost out: whatever the bytes of a body, for every route of the REST server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.protocols.admin.sidecar import Sidecar
from bunriwiki.protocols.handlers.feedback import Feedback
from bunriwiki.protocols.rest import responses
from bunriwiki.protocols.rest.app import RestApp
from bunriwiki.protocols.rest.commands import CommandRoutes
from bunriwiki.protocols.rest.endpoints import Endpoints
from bunriwiki.protocols.rest.infer_body import JSON_LENGTH
from bunriwiki.protocols.rest.open_inference import OpenInferenceRoutes
from bunriwiki.protocols.rest.routing import Route
from bunriwiki.testing.cost import Cost, cost_of, request_of
from bunriwiki.testing.hostile_bodies import EMOJI, INPUT, MB, TYPES, bodies, repeated
from bunriwiki.web.bodies import MAX_COMMAND_BYTES
from bunriwiki.web.tokens import TokenGate
from tests.bunriwiki.protocols.fakes import FakeService, plane
from tests.bunriwiki.protocols.rest.test_server import GUIDE, server


def sidecar_of_nobody() -> Sidecar:
    """The client of a sidecar that rejects everything."""
    transport = httpx.MockTransport(lambda _: httpx.Response(422, json={"detail": "No."}))
    return Sidecar("http://sidecar", TokenGate(["secret"]), 1, transport)


ROUTES = [
    *Endpoints(plane(), GUIDE, Feedback(), TokenGate([])).routes(),
    *CommandRoutes(sidecar_of_nobody()).routes(),
    *OpenInferenceRoutes(FakeService().handlers).routes(),
]
DATA = ("/yolo/prediction", "/kcbert/prediction", "/predict", "/v2/models/{model}/infer")
OVER = 1000  # bytes over the limit that a body may have here


@pytest.fixture(autouse=True, scope="module")
def no_lingering() -> Iterator[None]:
    """Nobody sends more after a rejection here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(responses, "LINGER_SECONDS", 0.0)
        yield


async def no_bentoml(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError


def cost(route: Route, body: bytes, *headers: tuple[bytes, bytes], query: bytes = b"", model: str = "kcbert") -> Cost:
    rest = RestApp()
    open_inference = FakeService(max_queue_size=512).handlers
    rest.server = server(plane(), sidecar=sidecar_of_nobody(), open_inference=open_inference)
    path = route.path.replace("{model}", model)
    request = request_of(route.method, path, [(b"authorization", b"Bearer secret"), *headers], query)
    return cost_of(rest.wrap(no_bentoml), request, body)


def route_of(path: str) -> Route:
    return next(route for route in ROUTES if route.path == path)


def test_only_what_takes_data_takes_large_bodies() -> None:
    for route in ROUTES:
        assert route.path in DATA or (route.max_body_bytes or 0) <= MAX_COMMAND_BYTES


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
@settings(max_examples=16, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_body(route: Route, data: st.DataObject) -> None:
    body = data.draw(bodies((route.max_body_bytes or MAX_COMMAND_BYTES) + OVER))
    headers = [(b"content-type", data.draw(st.sampled_from(TYPES)))]
    if data.draw(st.booleans()):
        headers.append((JSON_LENGTH.lower().encode(), b"%d" % data.draw(st.integers(0, len(body)))))
    found = cost(route, body, *headers, model=data.draw(st.sampled_from(MODELS)))
    assert found.is_bounded, found
    assert found.status < 500 or found.status == 503, found


INFER = route_of("/v2/models/{model}/infer")
JSON = (b"content-type", b"application/json")
FORM = (b"content-type", b"multipart/form-data; boundary=B")
IMAGE = b'--B\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'


def test_honest_bodies_of_the_largest_size(bottle: bytes) -> None:
    photo = bottle + bytes(10 * MB - 200 - len(bottle))
    form = IMAGE + photo + b"\r\n--B--\r\n"
    text = "가" * 2_500
    texts = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [128], "data": [text] * 128}]}
    raw = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(photo) + 4}}
    head = json.dumps({"inputs": [raw]}).encode()
    tensor = head + len(photo).to_bytes(4, "little") + photo
    encoded = base64.b64encode(bottle + bytes(3 * MB - 1000 - len(bottle)))
    found = {
        "photo": cost(route_of("/yolo/prediction"), photo, (b"content-type", b"image/jpeg")),
        "form": cost(route_of("/yolo/prediction"), form, FORM),
        "text": cost(route_of("/predict"), json.dumps({"text": "😭" * 10_000}).encode(), JSON),
        "tensor": cost(INFER, tensor, (JSON_LENGTH.lower().encode(), b"%d" % len(head)), model="yolo"),
        "base64": cost(INFER, INPUT.replace(b"text", b"image") % (1, b"base64") + b'"' + encoded + b'"]}]}', model="yolo"),
        "texts": cost(INFER, json.dumps(texts, ensure_ascii=False).encode()),
    }
    assert {name: one.status for name, one in found.items()} == dict.fromkeys(found, 200), found
    assert {name: one.is_bounded for name, one in found.items()} == dict.fromkeys(found, True), found


@pytest.mark.parametrize("unit", [b"\r", b"\r\n", b"\r\n--", b"\r\n--B\r\n", b"-", b"a"])
def test_forms_of_boundaries(unit: bytes) -> None:
    for before in (IMAGE, IMAGE.replace(b'; filename="a"', b"")):
        found = cost(route_of("/yolo/prediction"), repeated(unit, 10 * MB, before, b"\r\n--B--\r\n"), FORM)
        assert found.is_bounded, found


def test_a_query_of_many_parameters() -> None:
    found = cost(route_of("/predict"), b'{"text":"a"}', JSON, query=b"a=&" * 20_000)
    assert found.status == 422
    assert found.is_bounded, found


def test_texts_that_take_four_times_their_bytes() -> None:
    """A text of Python takes four bytes per character if one of its characters is outside of the first 65,536."""
    element = b'"' + EMOJI + b"a" * 8_000 + b'",'
    body = (INPUT % (128, b"")) + element * 127 + element[:-1] + b"]}]}"
    found = cost(INFER, body[: MB - 10], JSON)
    assert found.is_bounded, found
