"""The service's own endpoints: the predictions, the readiness, the state of the models, and the OpenAPI document."""

from __future__ import annotations

from typing import Any

import msgspec

from bunriwiki.artifacts.models import KCBERT, SENTIMENT, YOLO
from bunriwiki.disposal.advice import Guide
from bunriwiki.protocols.handlers.dataplane import DataPlane, Served
from bunriwiki.protocols.rest import parsing
from bunriwiki.protocols.rest.openapi import document
from bunriwiki.protocols.rest.requests import Request
from bunriwiki.protocols.rest.responses import Response
from bunriwiki.protocols.rest.routing import Route
from bunriwiki.protocols.rest.schemas import Recyclables
from bunriwiki.web import problems


class Endpoints:
    """Answers from `dataplane`, with the advice of `guide`. All endpoints raise RequestError."""

    def __init__(self, dataplane: DataPlane, guide: Guide) -> None:
        self._dataplane = dataplane
        self._guide = guide

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/yolo/prediction", self._yolo, parsing.MAX_IMAGE_BYTES, log=True, model=YOLO.name),
            Route("POST", "/kcbert/prediction", self._kcbert, parsing.MAX_TEXT_BYTES, log=True, model=KCBERT.name),
            Route("POST", "/predict", self._sentiment, parsing.MAX_TEXT_BYTES, log=True, model=SENTIMENT.name),
            Route("GET", "/readyz", self._readyz),
            Route("GET", "/v1/models", self._models),
            Route("GET", "/docs.json", self._docs),
        ]

    async def _yolo(self, request: Request) -> Response:
        wanted = await parsing.parse_photo(request.headers, request.query, request.body)
        request.body = b""  # the photo of a form is a copy: the form's bytes are freed before the request waits for its batch
        [served] = await self._dataplane.infer(YOLO, [wanted.photo])
        if wanted.advice:
            return _served(served, Recyclables.of(served.answer, self._guide).model_dump_json().encode())
        return _served(served, msgspec.json.encode(served.answer))

    async def _kcbert(self, request: Request) -> Response:
        parsing.parse_query(request.query)
        [served] = await self._dataplane.infer(KCBERT, [parsing.parse_text(request.headers, request.body)])
        return _served(served, msgspec.json.encode(served.answer))

    async def _sentiment(self, request: Request) -> Response:
        parsing.parse_query(request.query)
        [served] = await self._dataplane.infer(SENTIMENT, [parsing.parse_text(request.headers, request.body)])
        answer = served.answer
        return _served(
            served, msgspec.json.encode({"sentiment": answer.label, "score": answer.score, "details": answer.details})
        )

    async def _readyz(self, _: Request) -> Response:
        reasons = await self._dataplane.unready()
        if reasons:
            raise problems.unavailable(f"Not ready: {', '.join(reasons)}.")
        return Response(b"\n", media_type="text/plain; charset=utf-8")

    async def _models(self, _: Request) -> Response:
        return Response((await self._dataplane.models()).model_dump_json().encode())

    async def _docs(self, _: Request) -> Response:
        return Response(document())


def _served(served: Served[Any], body: bytes) -> Response:
    return Response(body, headers={"X-Model-Name": served.model, "X-Model-Version": served.version})
