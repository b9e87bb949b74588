from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from starlette.datastructures import Headers

from bunriwiki.protocols.admin.sidecar import Sidecar
from bunriwiki.protocols.rest.commands import CommandRoutes
from bunriwiki.protocols.rest.requests import Request
from bunriwiki.protocols.rest.responses import Response
from bunriwiki.protocols.rest.routing import Router
from bunriwiki.web.problems import RequestError
from bunriwiki.web.tokens import TokenGate


class Commands:
    """The endpoints, over a sidecar that answers with the path of the request that it got."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response] | None = None) -> None:
        transport = httpx.MockTransport(answer or (lambda request: httpx.Response(202, text=request.url.path)))
        self.router = Router(CommandRoutes(Sidecar("http://sidecar", TokenGate(["secret"]), 1, transport)).routes())

    async def post(self, path: str) -> Response:
        match = self.router.match(path)
        assert match
        return await match.route.endpoint(Request(Headers({"authorization": "Bearer secret"}), b"{}", b"", match.path_params))


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/reload_model", "/reload_model"),
        ("/v1/models/yolo/rollback", "/v1/models/{model}/rollback"),
        ("/v1/models/any/pin", "/v1/models/{model}/pin"),
        ("/v1/models/yolo/unpin", "/v1/models/{model}/unpin"),
        ("/v1/models/yolo/pause", "/v1/models/{model}/pause"),
        ("/v1/models/yolo/resume", "/v1/models/{model}/resume"),
        ("/v1/models/yolo/promote", "/v1/models/{model}/promote"),
        ("/v1/models/yolo/abort", "/v1/models/{model}/abort"),
        ("/v1/models/yolo/cancel", "/v1/models/{model}/cancel"),
        ("/v1/models", None),
        ("/v1/models/yolo/delete", None),
        ("/v1/models/a/b/pin", None),
        ("/reload_model/", None),
    ],
)
def test_the_paths_of_commands(path: str, template: str | None) -> None:
    match = Commands().router.match(path)
    assert (match.route.path if match else None) == template


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "forwarded_to"),
    [
        ("/reload_model", "/sync"),
        ("/v1/models/yolo/rollback", "/models/yolo/rollback"),
        ("/v1/models/yolo/pin", "/models/yolo/pin"),
        ("/v1/models/yolo/cancel", "/models/yolo/cancel"),
    ],
)
async def test_a_command_is_forwarded_and_its_response_returned(path: str, forwarded_to: str) -> None:
    response = await Commands().post(path)
    assert (response.status, response.body) == (202, forwarded_to.encode())
    assert response.media_type == "text/plain; charset=utf-8"


@pytest.mark.anyio
async def test_a_command_for_an_unknown_model_is_not_forwarded() -> None:
    with pytest.raises(RequestError) as rejected:
        await Commands().post("/v1/models/bert/pin")
    assert rejected.value.status == 404


@pytest.mark.anyio
async def test_a_problem_of_the_sidecar_becomes_one_of_this_request() -> None:
    problem = {"title": "Conflict", "status": 409, "detail": "It is pinned.", "instance": "/models/yolo/promote"}
    headers = {"content-type": "application/problem+json"}
    commands = Commands(lambda _: httpx.Response(409, content=json.dumps(problem), headers=headers))
    with pytest.raises(RequestError) as rejected:
        await commands.post("/v1/models/yolo/promote")
    assert (rejected.value.status, rejected.value.detail) == (409, "It is pinned.")
