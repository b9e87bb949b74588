from __future__ import annotations

import httpx
import pytest
from starlette.datastructures import Headers

from bunriwiki.protocols.admin.sidecar import Sidecar
from bunriwiki.protocols.admin.tokens import AdminGate
from bunriwiki.protocols.handlers.errors import RequestError
from bunriwiki.protocols.rest.commands import CommandRoutes

TOKEN = Headers({"authorization": "Bearer secret"})


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/reload_model", "/reload_model"),
        ("/v1/models/yolo/rollback", "/v1/models/{model}/rollback"),
        ("/v1/models/any/pin", "/v1/models/{model}/pin"),
        ("/v1/models/yolo/unpin", "/v1/models/{model}/unpin"),
        ("/v1/models", None),
        ("/v1/models/yolo/delete", None),
        ("/v1/models/a/b/pin", None),
        ("/reload_model/", None),
    ],
)
def test_what_is_a_command(path: str, template: str | None) -> None:
    assert CommandRoutes.template(path) == template


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/reload_model", "/sync"),
        ("/v1/models/yolo/rollback", "/models/yolo/rollback"),
        ("/v1/models/yolo/pin", "/models/yolo/pin"),
    ],
)
async def test_where_a_command_goes(path: str, there: str) -> None:
    echo = httpx.MockTransport(lambda request: httpx.Response(200, text=request.url.path))
    routes = CommandRoutes(Sidecar("http://sidecar", AdminGate(["secret"]), 1, echo))
    assert (await routes.answer(path, TOKEN, b"{}")).body == there.encode()


@pytest.mark.anyio
async def test_a_model_that_is_not_there_is_not_passed_on() -> None:
    routes = CommandRoutes(Sidecar("http://127.0.0.1:9", AdminGate(["secret"]), 1))
    with pytest.raises(RequestError) as rejected:
        await routes.answer("/v1/models/bert/pin", TOKEN, b"")
    assert rejected.value.status == 404
