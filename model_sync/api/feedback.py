"""The routes of the sidecar's API for feedback and live quality."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from loguru import logger
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bunriwiki.web import problems
from bunriwiki.web.tickets import MAX_CHARACTERS
from bunriwiki.web.tokens import TokenGate
from model_sync.api.requests import authorize, may_see_details, parse, read
from model_sync.errors import FeedbackError
from model_sync.quality.quality import Quality, public_quality

MAX_LABELS = 100
STATUS = {"closed": 403, "invalid": 400, "expired": 410, "used": 409, "wrong": 422, "full": 429}  # by the kind of the error
EXAMPLE = '{"ticket": "...", "label": "..."}'

ResultT = TypeVar("ResultT")


class FeedbackRequest(BaseModel):
    """The body of `POST /feedback`: the ticket of an answer, and what is right.

    `label` is the class of a text; `labels` are the classes of what is in a photo, [] if nothing is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    ticket: str = Field(min_length=1, max_length=MAX_CHARACTERS)
    label: str | None = None
    labels: list[str] | None = Field(default=None, max_length=MAX_LABELS)

    @model_validator(mode="after")
    def _has_one_of_them(self) -> FeedbackRequest:
        if (self.label is None) == (self.labels is None):
            raise ValueError("send either `label` (the class of a text) or `labels` (the classes in a photo, [] for nothing)")
        return self

    @property
    def right(self) -> list[str]:
        """The right labels."""
        return [self.label] if self.label is not None else self.labels or []


class FeedbackRoutes:
    """The endpoints of `quality`, which run in threads.

    Feedback needs no token; with one that `raters` lets pass it counts as known. Deleting requires a token of `admins`, as do
    the details of live quality.
    """

    def __init__(self, quality: Quality, *, admins: TokenGate, raters: TokenGate) -> None:
        self._quality = quality
        self._admins = admins
        self._raters = raters

    def routes(self) -> list[Route]:
        return [
            Route("/quality", self.quality),
            Route("/feedback", self.give, methods=["POST"]),
            Route("/feedback/{request_id}", self.forget, methods=["DELETE"]),
        ]

    async def quality(self, request: Request) -> Response:
        details = await may_see_details(request, self._admins)
        state = await _do(self._quality.state)
        return JSONResponse((state if details else public_quality(state)).model_dump(mode="json"))

    async def give(self, request: Request) -> Response:
        known = "authorization" in request.headers
        if known:
            await authorize(request, self._raters)
        wanted = parse(await read(request), FeedbackRequest, EXAMPLE)
        correct = await _do(lambda: self._quality.feedback.give(wanted.ticket, wanted.right, known=known))
        return JSONResponse({"correct": correct, "known": known}, 201)

    async def forget(self, request: Request) -> Response:
        await authorize(request, self._admins)
        feedback, samples = await _do(lambda: self._quality.feedback.forget(request.path_params["request_id"]))
        return JSONResponse({"feedback": feedback, "samples": samples})


async def _do(work: Callable[[], ResultT]) -> ResultT:
    """What `work` returns, from a thread. Raises RequestError."""
    try:
        return await run_in_threadpool(work)
    except FeedbackError as error:
        raise problems.RequestError(STATUS[error.kind], error.sentence) from None
    except sqlite3.Error as error:
        logger.error("the database of the feedback cannot be used: {}", error)
        raise problems.unavailable("The database of the feedback cannot be used now. Try again later.", 60) from None
