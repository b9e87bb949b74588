from __future__ import annotations

import pytest

from bunriwiki.protocols.rest.requests import Request
from bunriwiki.protocols.rest.responses import Response
from bunriwiki.protocols.rest.routing import MAX_REMEMBERED, MAX_REMEMBERED_LENGTH, Route, Router


async def endpoint(_: Request) -> Response:
    return Response(b"")


STATS = Route("GET", "/models/stats.json", endpoint)
MODEL = Route("GET", "/models/{model}", endpoint)
PIN = Route("POST", "/models/{model}/{version}/pin", endpoint)


def test_a_path_without_parameters_comes_first() -> None:
    router = Router([MODEL, STATS])
    assert router.match("/models/stats.json") == (STATS, {}, "")
    assert router.match("/models/statsxjson") == (MODEL, {"model": "statsxjson"}, "statsxjson")


@pytest.mark.parametrize("path", ["", "/", "/models", "/models/", "/models/a/b", "/models/a/b/pin/", "x/models/a"])
def test_paths_without_a_route(path: str) -> None:
    assert Router([MODEL, STATS, PIN]).match(path) is None


def test_parameters() -> None:
    assert Router([PIN]).match("/models/yolo/v1/pin") == (PIN, {"model": "yolo", "version": "v1"}, "yolo")


def test_the_model_of_a_route_that_names_it() -> None:
    route = Route("POST", "/predict", endpoint, model="sentiment")
    assert Router([route]).match("/predict") == (route, {}, "sentiment")


def test_long_paths_are_matched_but_not_remembered() -> None:
    router = Router([MODEL])
    for number in range(2 * MAX_REMEMBERED):
        assert router.match(f"/models/{number}{'x' * MAX_REMEMBERED_LENGTH}")
    assert router._remembered.cache_info().currsize == 0
    for number in range(2 * MAX_REMEMBERED):
        router.match(f"/models/{number}")
    assert router._remembered.cache_info().currsize == MAX_REMEMBERED


def test_methods() -> None:
    assert [method for method in ("GET", "HEAD", "POST", "BREW") if MODEL.allows(method)] == ["GET", "HEAD"]
    assert [method for method in ("GET", "HEAD", "POST", "BREW") if PIN.allows(method)] == ["POST"]
    assert (MODEL.allow, PIN.allow) == ("GET, HEAD", "POST")
