from __future__ import annotations

import json
from typing import Any, cast

import pytest

from bunriwiki.protocols.admin.sidecar import Sidecar
from bunriwiki.protocols.rest.commands import CommandRoutes
from bunriwiki.protocols.rest.openapi import document
from bunriwiki.web.tokens import TokenGate
from service import Bunriwiki

OPENAPI: dict[str, Any] = json.loads(document())
CALLS = dict(cast(Any, Bunriwiki).apis)
COMMANDS = CommandRoutes(Sidecar("http://127.0.0.1:9", TokenGate([]), 1)).routes()


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    return OPENAPI["components"]["schemas"][schema["$ref"].rpartition("/")[2]]


@pytest.mark.parametrize("name", CALLS)
def test_the_document_and_bentoml_declare_the_same_calls(name: str) -> None:
    method = CALLS[name]
    call = OPENAPI["paths"][method.route]["post"]
    assert call["operationId"] == name

    content = call["requestBody"]["content"]
    [schema] = [resolved(media["schema"]) for media_type, media in content.items() if not media_type.startswith("image/")]
    declared = method.input_spec.model_json_schema()
    assert set(schema["properties"]) == set(declared["properties"])
    assert set(schema["required"]) == set(declared["required"])
    for field, constraints in declared["properties"].items():
        for key in ("minimum", "maximum"):
            assert schema["properties"][field].get(key) == constraints.get(key)

    query = {option["name"]: option["schema"] for option in call["parameters"] if option["in"] == "query"}
    optional = {field: constraints for field, constraints in declared["properties"].items() if "default" in constraints}
    assert set(query) == set(optional) == set(declared["properties"]) - set(declared["required"])
    for field, constraints in optional.items():
        for key in ("type", "minimum", "maximum", "default"):
            assert query[field].get(key) == constraints.get(key)

    answer = resolved(call["responses"]["200"]["content"]["application/json"]["schema"])
    assert set(answer["properties"]) == set(method.output_spec.model_json_schema()["properties"])


def test_every_call_is_in_the_document() -> None:
    posts = {path for path, item in OPENAPI["paths"].items() if "post" in item}
    assert posts == {*(method.route for method in CALLS.values()), *(route.path for route in COMMANDS)}


def test_references_lead_somewhere() -> None:
    text = document().decode()
    for part in text.split('"$ref": "')[1:]:
        assert part.split('"')[0].rpartition("/")[2] in OPENAPI["components"]["schemas"]
