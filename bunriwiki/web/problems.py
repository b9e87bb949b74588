"""Errors of requests, and their form over HTTP (problem details, RFC 9457)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from pydantic import BaseModel, Field

MEDIA_TYPE = "application/problem+json"
UNEXPECTED = "Something went wrong here. It was logged."  # the detail of an unexpected error, whose text no client sees
TITLES = {
    400: "Broken request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    409: "Conflict",
    410: "Gone",
    413: "Too large",
    415: "Unsupported media type",
    422: "Invalid request",
    429: "Too many requests",
    431: "Head too large",
    500: "Internal error",
    503: "Unavailable",
    504: "Deadline exceeded",
}


@dataclass(eq=False)
class RequestError(Exception):
    """A request that is answered with an error.

    `status` is the HTTP status, `detail` a sentence for the client that says what is wrong and what to do, and `headers` are
    further headers of the answer.
    """

    status: int
    detail: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The title of all errors with this status."""
        return TITLES.get(self.status, "Error")


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="A sentence that says what to do.")
    instance: str = Field(description="The path of the request.")

    @classmethod
    def of(cls, error: RequestError, instance: str, **members: str) -> Self:
        """The problem for an error; `members` are the further fields of a subclass."""
        fields = {"title": error.title, "status": error.status, "detail": error.detail, "instance": instance}
        return cls.model_validate({**fields, **members})


def invalid(detail: str) -> RequestError:
    return RequestError(422, detail)


def broken(detail: str) -> RequestError:
    return RequestError(400, detail)


def unauthorized(detail: str) -> RequestError:
    return RequestError(401, detail, {"WWW-Authenticate": "Bearer"})


def forbidden(detail: str) -> RequestError:
    return RequestError(403, detail)


def not_found(detail: str) -> RequestError:
    return RequestError(404, detail)


def method_not_allowed(method: str, allowed: str) -> RequestError:
    return RequestError(405, f"{method[:20]} is not possible here. Use {allowed}.", {"Allow": allowed})


def too_large(detail: str) -> RequestError:
    return RequestError(413, detail)


def unsupported(detail: str) -> RequestError:
    return RequestError(415, detail)


def too_many(detail: str) -> RequestError:
    return RequestError(429, detail, {"Retry-After": "1"})


def internal(detail: str) -> RequestError:
    return RequestError(500, detail)


def unavailable(detail: str, retry_after: int = 1) -> RequestError:
    return RequestError(503, detail, {"Retry-After": str(retry_after)})


def deadline_exceeded(detail: str) -> RequestError:
    return RequestError(504, detail)
