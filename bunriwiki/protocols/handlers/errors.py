"""What can go wrong with a request, once for all doors."""

from __future__ import annotations

from dataclasses import dataclass, field

from bunriwiki.artifacts.answers import Failure


@dataclass
class RequestError(Exception):
    """A request that is answered with an error: an HTTP status, a short title, and a sentence that says what to do."""

    status: int
    title: str
    detail: str
    headers: dict[str, str] = field(default_factory=dict)


def invalid(detail: str) -> RequestError:
    return RequestError(422, "Invalid request", detail)


def broken(detail: str) -> RequestError:
    return RequestError(400, "Broken request", detail)


def unauthorized(detail: str) -> RequestError:
    return RequestError(401, "Unauthorized", detail, {"WWW-Authenticate": "Bearer"})


def forbidden(detail: str) -> RequestError:
    return RequestError(403, "Forbidden", detail)


def not_found(detail: str) -> RequestError:
    return RequestError(404, "Not found", detail)


def method_not_allowed(method: str, allowed: str) -> RequestError:
    return RequestError(405, "Method not allowed", f"{method[:20]} is not possible here. Use {allowed}.", {"Allow": allowed})


def too_slow(detail: str) -> RequestError:
    return RequestError(408, "Request timeout", detail)


def too_large(detail: str) -> RequestError:
    return RequestError(413, "Too large", detail)


def unsupported(detail: str) -> RequestError:
    return RequestError(415, "Unsupported media type", detail)


def unavailable(detail: str, retry_after: int = 1) -> RequestError:
    return RequestError(503, "Unavailable", detail, {"Retry-After": str(retry_after)})


def deadline_exceeded(detail: str) -> RequestError:
    return RequestError(504, "Deadline exceeded", detail)


def too_many(detail: str) -> RequestError:
    return RequestError(429, "Too many requests", detail, {"Retry-After": "1"})


def internal(detail: str) -> RequestError:
    return RequestError(500, "Internal error", detail)


_FAILURES = {"broken": broken, "unsupported": unsupported, "too_large": too_large, "internal": internal}


def of_failure(failure: Failure) -> RequestError:
    """The error for an input that a runner could not answer."""
    return _FAILURES[failure.kind](failure.message)
