"""The OpenAPI document of the REST server, from the same models that it parses and answers with."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bunriwiki.artifacts.inputs import THRESHOLDS
from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.protocols.handlers.status import ServiceStatus
from bunriwiki.protocols.rest.parsing import ADVICE, IMAGE_TYPES
from bunriwiki.protocols.rest.schemas import HateSpeech, Problem, Recyclables, Sentiment, TextRequest

REFERENCE = "#/components/schemas/{model}"
THRESHOLD = {"type": "number", "minimum": 0, "maximum": 1}
SWITCH = {"type": "boolean"}
OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {**THRESHOLD, "default": default} for name, default in THRESHOLDS.items()},
    ADVICE: {**SWITCH, "default": False},
}
PROBLEMS = {
    400: "The body cannot be read: broken JSON, a broken multipart body, or a damaged image.",
    408: "The body did not arrive in time.",
    413: "The body has over 10 MB (128 KB for text), the text over 10,000 characters, or the image more pixels than "
    "are decoded: over 50 megapixels in a baseline JPEG, over 12 megapixels in another format.",
    415: "This call does not take bodies of this type.",
    422: "A field or a query parameter is missing, empty, unknown, or of a wrong type.",
    503: "Too many requests are waiting, or a model is being restarted. Try again after `Retry-After` seconds.",
    504: "The deadline passed.",
}
HEADERS = {
    "X-Model-Name": "The model that answered.",
    "X-Model-Version": "The version that answered.",
    "X-Feedback-Ticket": "What `POST /feedback` takes; only where feedback is configured.",
    "X-Request-Id": "The id that the request sent, or else a new id.",
}


RELOAD: dict[str, Any] = {
    "models": {"type": "array", "items": {"enum": list(MODELS)}, "minItems": 1},
    "force": {"type": "boolean", "default": False, "description": "Accept what the gates find as warnings."},
    "wait": {"type": "boolean", "default": True, "description": "Answer after the sync, not at once."},
    "timeout": {"type": "number", "exclusiveMinimum": 0},
}
VERSION: dict[str, Any] = {"version": {"type": "string"}}
REJECTIONS = {
    400: "The body is not valid JSON.",
    401: "The token is wrong.",
    403: "No admin token is set.",
    404: "There is no such model or version.",
    408: "The body did not arrive in time.",
    409: "The command cannot be carried out now; `detail` says why.",
    413: "The body is too large.",
    422: "The body does not match the schema.",
    429: "Too many wrong tokens.",
    500: "Something went wrong. It was logged.",
    503: "No sidecar runs.",
    504: "The command takes longer, and goes on.",
}


FEEDBACK_REJECTIONS = {
    400: "The body is not valid JSON, or the ticket is not one of this service's.",
    403: "No feedback key is set.",
    409: "The ticket was used before.",
    410: "The ticket has expired.",
    422: "The body does not match the schema, or the label is none of the model.",
    429: "Too many wrong tokens, or too much feedback of late.",
}


@lru_cache(maxsize=1)
def document() -> bytes:
    """The document, as JSON."""
    models: list[type[BaseModel]] = [TextRequest, Recyclables, HateSpeech, Sentiment, ServiceStatus, Problem]
    _, schemas = models_json_schema([(model, "serialization") for model in models], ref_template=REFERENCE)
    text = {"application/json": {"schema": _reference(TextRequest)}}
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Bunriwiki model service",
                "version": "1",
                "description": "Recyclables in photos, hate speech and sentiment in Korean text.",
                "license": {"name": "AGPL-3.0-or-later", "identifier": "AGPL-3.0-or-later"},
            },
            "servers": [{"url": "."}],
            "tags": [{"name": "Models"}, {"name": "Infrastructure"}, {"name": "Administration"}],
            "components": {
                "schemas": schemas["$defs"],
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
            "paths": {
                "/yolo/prediction": _call("yolo_prediction", "Recyclables in a photo", _image_body(), Recyclables, OPTIONS),
                "/kcbert/prediction": _call("kcbert_prediction", "Hate speech in a Korean comment", text, HateSpeech),
                "/predict": _call("predict", "Sentiment of a Korean sentence", text, Sentiment),
                "/livez": _probe("Liveness of the process."),
                "/readyz": _probe("Readiness: every model is loaded and warm.", not_ready=True),
                "/metrics": _probe("Prometheus metrics."),
                "/v1/models": _state(),
                "/reload_model": _command(
                    "Sync with the registries now. Answers what changed of each model, or why nothing did.", RELOAD
                ),
                "/feedback": _feedback(),
                "/v1/models/{model}/rollback": _command(
                    "Go back to the previous version, or to the given version. `fallback` is the bundled version.", VERSION
                ),
                "/v1/models/{model}/pin": _command("Pin a model to the version that serves, or to the given version.", VERSION),
                "/v1/models/{model}/unpin": _command("Have a model follow its registry again.", {}),
                "/v1/models/{model}/pause": _command("Keep the canary of a model from being activated.", {}),
                "/v1/models/{model}/resume": _command("Let the canary of a model be activated again.", {}),
                "/v1/models/{model}/promote": _command("Activate the canary of a model now.", {}),
                "/v1/models/{model}/abort": _command("Give up the promotion of a model, and hold the version.", {}),
                "/v1/models/{model}/cancel": _command("Cancel the import of a model.", {}),
            },
        },
        ensure_ascii=False,
    ).encode()


def _reference(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": REFERENCE.format(model=model.__name__)}


def _call(
    name: str,
    summary: str,
    content: dict[str, Any],
    answer: type[BaseModel],
    options: dict[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    answered = {
        "description": "The answer.",
        "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()},
        "content": {"application/json": {"schema": _reference(answer)}},
    }
    return {
        "post": {
            "operationId": name,
            "tags": ["Models"],
            "summary": summary,
            "parameters": [_option(name, schema) for name, schema in (options or {}).items()],
            "requestBody": {"required": True, "content": content},
            "responses": {"200": answered, **{str(status): _problem(text) for status, text in PROBLEMS.items()}},
        }
    }


def _option(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _image_body() -> dict[str, Any]:
    file = {"type": "string", "format": "binary", "contentMediaType": "image/*"}
    form = {
        "type": "object",
        "required": ["image"],
        "additionalProperties": False,
        "properties": {"image": file, **dict.fromkeys(THRESHOLDS, THRESHOLD), ADVICE: SWITCH},
    }
    raw = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in IMAGE_TYPES}
    return {"multipart/form-data": {"schema": form}, **raw}


def _problem(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/problem+json": {"schema": _reference(Problem)}}}


def _state() -> dict[str, Any]:
    answered = {"description": "Every model.", "content": {"application/json": {"schema": _reference(ServiceStatus)}}}
    summary = "The version of each model that serves, since when and from where, and the state of its workers."
    return {
        "get": {
            "operationId": "models",
            "tags": ["Infrastructure"],
            "summary": summary,
            "responses": {"200": answered, "503": _problem("The service is starting.")},
        }
    }


def _command(summary: str, properties: dict[str, Any]) -> dict[str, Any]:
    """A command, which the sidecar carries out."""
    schema = {"type": "object", "additionalProperties": False, "properties": properties}
    model = {"name": "model", "in": "path", "required": True, "schema": {"enum": list(MODELS)}}
    done = {"description": "Done.", "content": {"application/json": {"schema": {"type": "object"}}}}
    return {
        "post": {
            "tags": ["Administration"],
            "summary": summary,
            "parameters": [] if properties is RELOAD else [model],
            "security": [{"token": []}],
            "requestBody": {"required": False, "content": {"application/json": {"schema": schema}}},
            "responses": {"200": done, "202": done, **{str(status): _problem(text) for status, text in REJECTIONS.items()}},
        }
    }


def _feedback() -> dict[str, Any]:
    """Feedback, which the sidecar keeps; the token is optional."""
    common = {"ticket": {"type": "string", "minLength": 1, "description": "`X-Feedback-Ticket` of the answer."}}
    right = {
        "label": {"type": "string", "description": "The right class of a text."},
        "labels": {"type": "array", "items": {"type": "string"}, "description": "The classes in a photo; [] for nothing."},
    }
    forms = [
        {"type": "object", "additionalProperties": False, "required": ["ticket", name], "properties": {**common, name: schema}}
        for name, schema in right.items()
    ]
    kept = {"description": "Kept.", "content": {"application/json": {"schema": _object(correct="boolean", known="boolean")}}}
    return {
        "post": {
            "tags": ["Models"],
            "summary": "The right label for an earlier answer. With a token it counts as known.",
            "security": [{}, {"token": []}],
            "requestBody": {"required": True, "content": {"application/json": {"schema": {"oneOf": forms}}}},
            "responses": {
                "201": kept, **{str(status): _problem(text) for status, text in {**REJECTIONS, **FEEDBACK_REJECTIONS}.items()}
            },
        }
    }  # fmt: skip


def _object(**types: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": kind} for name, kind in types.items()}}


def _probe(summary: str, *, not_ready: bool = False) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "Yes.", "content": {"text/plain": {"schema": {"type": "string"}}}}}
    if not_ready:
        responses["503"] = _problem("No; `detail` says why.")
    return {"get": {"tags": ["Infrastructure"], "summary": summary, "responses": responses}}
