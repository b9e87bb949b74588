"""Asks one replica over HTTP: whether it is ready, whether it answers rightly, and what it has counted."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import httpx
from pydantic import BaseModel, TypeAdapter

from bunriwiki.artifacts.answers import Classification, Detections
from bunriwiki.artifacts.golden import read_golden_photos, read_golden_texts
from bunriwiki.artifacts.manifest import MANIFEST, DamagedArtifactError, Manifest
from bunriwiki.model_store.layout import Layout
from model_sync.rollout.comparison import Figures

READY_SECONDS = 3.0  # that a replica may take to say whether it is ready
ANSWER_SECONDS = 30.0
MAX_SAMPLES = 16  # of a model: the evaluation has compared all of them already, before the version was promoted
PATHS = {"yolo": "/yolo/prediction", "kcbert": "/kcbert/prediction", "sentiment": "/predict"}
BUSY = (429, 503, 504)

_DETECTIONS = TypeAdapter(Detections)
Sample = tuple[dict[str, Any], Callable[[Any], str | None]]
"""What httpx sends, and how the parsed answer differs from the right one."""


class _Text(BaseModel):
    """What is needed of the answer to a text."""

    details: dict[str, float]


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of the golden samples. `wrong` names the first wrong answer. `later` says why they have to be sent again: the
    replica is busy, or answers with another version than it should."""

    wrong: str = ""
    later: str = ""


class Checks(Protocol):
    """What the controller asks of a replica."""

    def is_ready(self, address: str) -> bool: ...

    def answers(self, address: str, versions: Mapping[str, str]) -> Answered:
        """Send the golden samples of all models. Models that `versions` does not name should answer with their fallback."""

    def figures(self, address: str) -> Figures | None:
        """What the replica has counted; None if it does not say."""


class ReplicaClient:
    """The checks. Golden samples are those of the version that answered: of the store, or of the `fallbacks`, by model.

    The answers of the models `not_compared` may differ from the samples, because the replicas serve them with another square
    than that of the samples; they need to be answers all the same.
    """

    def __init__(
        self,
        layout: Layout,
        fallbacks: Path,
        transport: httpx.BaseTransport | None = None,
        *,
        not_compared: Container[str] = (),
    ) -> None:
        self._layout = layout
        self._fallbacks = fallbacks
        self._not_compared = not_compared
        self._client = httpx.Client(timeout=ANSWER_SECONDS, trust_env=False, transport=transport)

    def is_ready(self, address: str) -> bool:
        try:
            return self._client.get(f"http://{address}/readyz", timeout=READY_SECONDS).status_code == 200
        except httpx.HTTPError:
            return False

    def answers(self, address: str, versions: Mapping[str, str]) -> Answered:
        for model, path in PATHS.items():
            expected = versions.get(model)
            folder = self._layout.version(model, expected) if expected else self._fallbacks / model
            try:
                found = self._compare(f"http://{address}{path}", model, expected, folder)
            except (DamagedArtifactError, OSError) as error:
                return Answered(later=f"the golden samples of {model} cannot be read: {error}")
            except httpx.HTTPError as error:
                return Answered(later=f"{model} does not answer: {str(error) or type(error).__name__}")
            if found != Answered():
                return found
        return Answered()

    def figures(self, address: str) -> Figures | None:
        try:
            answer = self._client.get(f"http://{address}/metrics", timeout=READY_SECONDS)
            return Figures.parse(answer.text) if answer.is_success else None
        except (httpx.HTTPError, ValueError):
            return None

    def _compare(self, url: str, model: str, expected: str | None, folder: Path) -> Answered:
        own = Manifest.read(folder).version if (folder / MANIFEST).exists() else None
        for sent, differs in islice(_samples(model, folder), MAX_SAMPLES):
            answer = self._client.post(url, **sent)
            if answer.status_code in BUSY:
                return Answered(later=f"{model} is busy: {answer.status_code}")
            if answer.status_code != 200:
                return Answered(wrong=f"{model} answers a golden sample with {answer.status_code}")
            version = answer.headers.get("X-Model-Version")
            if version != own:
                if expected is None:  # the replica bundles another fallback than the sidecar: its samples are not known here
                    return Answered()
                return Answered(later=f"{model} answers with {version} instead of {expected}")
            try:
                answered = _parsed(model, answer)
                difference = None if model in self._not_compared else differs(answered)
            except ValueError:  # pydantic's ValidationError is one
                difference = "the answer cannot be parsed"
            if difference:
                return Answered(wrong=f"{model} {version} answers a golden sample wrongly: {difference}")
        return Answered()


def _samples(model: str, folder: Path) -> Iterator[Sample]:
    if model == "yolo":
        for photo in read_golden_photos(folder):
            place = (folder / photo.image).resolve()
            if not place.is_relative_to(folder.resolve()):
                raise DamagedArtifactError(f"{photo.image} is outside of {folder}")
            sent = {"content": place.read_bytes(), "params": {"confidence": photo.confidence}}
            yield {**sent, "headers": {"Content-Type": "image/jpeg"}}, photo.differs
    else:
        for text in read_golden_texts(folder):
            yield {"json": {"text": text.text}}, text.differs


def _parsed(model: str, answer: httpx.Response) -> Classification | Detections:
    if model == "yolo":
        return _DETECTIONS.validate_json(answer.content)
    details = _Text.model_validate_json(answer.content).details
    label = max(details, key=details.__getitem__)
    return Classification(label=label, score=details[label], details=details)
