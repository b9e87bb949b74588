"""Requests of all kinds, made of the test data."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass

from bunriwiki.testing.paths import PHOTOS, SAMPLES


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
