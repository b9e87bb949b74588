"""What the sidecar's endpoints need of a request: its authorization, its body, and its client."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from bunriwiki.model_store.history import ACTING_TOKEN
from bunriwiki.web import problems
from bunriwiki.web.bodies import MAX_COMMAND_BYTES, BodyReader, ReadLimits
from bunriwiki.web.bounded_json import check_values
from bunriwiki.web.clients import CLIENT, Clients
from bunriwiki.web.tokens import TokenGate, token_id

READ_LIMITS = ReadLimits(seconds=10)  # of a body

BodyT = TypeVar("BodyT", bound=BaseModel)


async def authorize(request: Request, gate: TokenGate) -> None:
    """Raises RequestError unless the request has a token of `gate`, whose id the history then names for what it changes."""
    CLIENT.set(client_of(request))
    token = await gate.check(request.headers.get("authorization"), f"{request.method} {request.url.path[:100]!r}")
    ACTING_TOKEN.set(await run_in_threadpool(token_id, token))


async def may_see_details(request: Request, gate: TokenGate) -> bool:
    """Whether the request has a token of `gate`. Raises RequestError if it has a wrong one."""
    authorization = request.headers.get("authorization")
    if authorization is None:
        return False
    CLIENT.set(client_of(request))
    await gate.check(authorization, f"the details of {request.url.path[:100]!r}")
    return True


async def read(request: Request) -> bytes:
    """The body. Raises RequestError if it is too large or too slow, and ClientDisconnect."""
    bodies: BodyReader = request.app.state.bodies
    return await bodies.read(request.scope, request.receive, max_bytes=MAX_COMMAND_BYTES)


def parse(body: bytes, kind: type[BodyT], example: str) -> BodyT:
    """The body, parsed; an empty body counts as an empty object. Raises RequestError, with `example` if it is not JSON."""
    check_values(body)
    try:
        return kind.model_validate_json(body if body.strip() else b"{}")
    except ValidationError as error:
        if error.errors(include_url=False)[0]["type"] == "json_invalid":
            raise problems.broken(f"The body is not valid JSON. Send an object like {example}.") from None
        raise invalid(error, "the body") from None


def invalid(error: ValidationError, whole: str) -> problems.RequestError:
    """The error for the first mistake that pydantic found; `whole` names what was validated."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])[:60] or whole
    return problems.invalid(f"{place}: {first['msg']}.")


def client_of(request: Request) -> str:
    """The client's address, for the log."""
    clients: Clients = request.app.state.clients
    return clients.of_scope(request.scope)
