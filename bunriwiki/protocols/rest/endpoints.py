"""The service's own endpoints: the predictions, the readiness, the state of the models, and the OpenAPI document."""

from __future__ import annotations

from typing import Any

import msgspec

from bunriwiki.artifacts.models import KCBERT, SENTIMENT, YOLO
from bunriwiki.disposal.advice import Guide
from bunriwiki.protocols.handlers.dataplane import DataPlane, Served
from bunriwiki.protocols.handlers.feedback import Feedback
from bunriwiki.protocols.handlers.public_status import PublicStatus
from bunriwiki.protocols.rest import parsing
from bunriwiki.protocols.rest.openapi import document
from bunriwiki.protocols.rest.requests import Request
from bunriwiki.protocols.rest.responses import Response
from bunriwiki.protocols.rest.routing import Route
from bunriwiki.protocols.rest.schemas import Recyclables
from bunriwiki.web import problems
from bunriwiki.web.tokens import TokenGate


class Endpoints:
    """Answers from `dataplane`, with the advice of `guide` and the tickets of `feedback`. All endpoints raise RequestError.

    Details of the status are for those whom `gate` lets pass.
    """

    def __init__(self, dataplane: DataPlane, guide: Guide, feedback: Feedback, gate: TokenGate) -> None:
        self._dataplane = dataplane
        self._guide = guide
        self._feedback = feedback
        self._gate = gate

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
        [served] = await self._dataplane.infer(YOLO, [wanted.photo], timing=request.timing)
        if wanted.advice:
            body = Recyclables.of(served.answer, self._guide).model_dump_json().encode()
        else:
            body = msgspec.json.encode(served.answer)
        return self._served(request, wanted.photo, served, body)

    async def _kcbert(self, request: Request) -> Response:
        parsing.parse_query(request.query)
        text = parsing.parse_text(request.headers, request.body)
        [served] = await self._dataplane.infer(KCBERT, [text], timing=request.timing)
        return self._served(request, text, served, msgspec.json.encode(served.answer))

    async def _sentiment(self, request: Request) -> Response:
        parsing.parse_query(request.query)
        text = parsing.parse_text(request.headers, request.body)
        [served] = await self._dataplane.infer(SENTIMENT, [text], timing=request.timing)
        answer = served.answer
        body = msgspec.json.encode({"sentiment": answer.label, "score": answer.score, "details": answer.details})
        return self._served(request, text, served, body)

    async def _readyz(self, _: Request) -> Response:
        reasons = await self._dataplane.unready()
        if reasons:
            raise problems.unavailable(f"Not ready: {', '.join(reasons)}.")
        return Response(b"\n", media_type="text/plain; charset=utf-8")

    async def _models(self, request: Request) -> Response:
        authorization = request.headers.get("authorization")
        if authorization is not None:
            await self._gate.check(authorization, "the details of the models")
        status = await self._dataplane.models()
        shown = PublicStatus.of(status) if authorization is None else status
        return Response(shown.model_dump_json().encode())

    async def _docs(self, _: Request) -> Response:
        return Response(document())

    def _served(self, request: Request, given: object, served: Served[Any], body: bytes) -> Response:
        headers = {"X-Model-Name": served.model, "X-Model-Version": served.version}
        if ticket := self._feedback.ticket(given, served, request.request_id):
            headers["X-Feedback-Ticket"] = ticket
        return Response(body, headers=headers)
