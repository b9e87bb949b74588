"""Requests of all kinds, made of the test data."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass

from bunriwiki.protocols.grpc import open_inference_pb2 as pb
from bunriwiki.testing.paths import PHOTOS, SAMPLES

TEXT = "정말 재미있어요"


@dataclass(frozen=True)
class Call:
    """A POST request that is sent again and again."""

    path: str
    body: bytes
    media_type: str


def mixed_calls() -> list[Call]:
    """Photos, comments and reviews from the test data, in turn."""
    photos = [Call("/yolo/prediction", path.read_bytes(), "image/jpeg") for path in sorted(PHOTOS.glob("*.jpg"))]
    texts = (SAMPLES / "texts.txt").read_text(encoding="utf-8").splitlines()
    bodies = [json.dumps({"text": text}).encode() for text in texts]
    comments = [Call("/kcbert/prediction", body, "application/json") for body in bodies]
    reviews = [Call("/predict", body, "application/json") for body in bodies]
    return [call for three in zip(itertools.cycle(photos), comments, reviews, strict=False) for call in three]


def text_call(model: str = "sentiment", text: str = TEXT) -> pb.ModelInferRequest:
    """A gRPC call with one text."""
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(text.encode())
    return request
