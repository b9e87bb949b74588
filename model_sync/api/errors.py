"""Every error of the sidecar's API as a problem (RFC 9457)."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from bunriwiki.web import problems

HANDLED = (problems.RequestError, HTTPException, ClientDisconnect, Exception)  # what `as_problem` is a handler for


def as_problem(request: Request, error: Exception) -> Response:
    """The response to an error, without the text of an unexpected error. The server logs it: Starlette raises it again."""
    path = request.url.path
    answered = _request_error(request, path, error)
    body = problems.Problem.of(answered, path).model_dump_json()
    return Response(body, answered.status, answered.headers, media_type=problems.MEDIA_TYPE)


def _request_error(request: Request, path: str, error: Exception) -> problems.RequestError:
    match error:
        case problems.RequestError():
            return error
        case HTTPException(status_code=404):
            return problems.not_found(f"There is nothing at {path[:100]}.")
        case HTTPException():  # 405 is the only other status that Starlette raises by itself
            return problems.method_not_allowed(request.method, (error.headers or {}).get("Allow", ""))
        case ClientDisconnect():
            return problems.broken("The body was cut off.")
        case _:
            return problems.internal(problems.UNEXPECTED)
