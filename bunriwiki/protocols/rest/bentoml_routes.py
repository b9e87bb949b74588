"""The paths that BentoML's own routes answer, without BentoML's middlewares."""

from __future__ import annotations

from loguru import logger
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATHS = ("/", "/livez", "/healthz", "/schema.json")
ASSETS = "/static_content/"  # the files that BentoML's page at / loads
TEMPLATES = (*PATHS, ASSETS + "{file}")  # the labels of these paths in the metrics
ERROR = 400  # the least status of an error

# BentoML's page has a script that loads Google's tag manager. With this header a browser runs no inline script, and loads
# nothing from another host.
CONTENT_SECURITY_POLICY = (
    b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"
)


def template(path: str) -> str | None:
    """The label of a path in the metrics; None for a path that BentoML does not answer here."""
    if path in PATHS:
        return path
    return TEMPLATES[-1] if path.startswith(ASSETS) else None


async def forward(bentoml: ASGIApp, scope: Scope, receive: Receive, send: Send) -> int:
    """Have BentoML's routes answer a request.

    Returns the status of the answer that was sent, or of an error (`ERROR` or more), of which nothing was sent. Raises an error
    that comes after the beginning of the response.
    """
    status = 500
    started = False

    async def send_unless_failed(message: Message) -> None:
        nonlocal status, started
        if message["type"] == "http.response.start":
            status = message["status"]
        if status < ERROR:
            if not started:
                message["headers"] = [*message.get("headers", []), (b"content-security-policy", CONTENT_SECURITY_POLICY)]
            started = True
            await send(message)

    try:
        await bentoml(scope, receive, send_unless_failed)
    except HTTPException as error:
        status = error.status_code
    except Exception:
        if started:
            raise
        logger.exception("{} {} failed", scope["method"], scope["path"])
        status = 500
    return status
