"""The models of this service: for each, the one specification that the data plane and the control plane share.

docs/new-model.md says how to add a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from bunriwiki.artifacts.answers import Classification, Detections, Failure
from bunriwiki.artifacts.inputs import Photo, check_photo, check_text

InputT = TypeVar("InputT")
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec(Generic[InputT, AnswerT]):
    """What is the same for every version of a model.

    `input` and `answer` are types that msgspec can encode. `check` says why an input must not reach the runner, or returns
    None; it runs in the event loop of the gateway, so it must take far less than a millisecond. A runner gets at most
    `max_batch_size` inputs in a call. `servable` names the class that opens a version, as `module:class`; only the data plane
    imports it.
    """

    name: str
    input: type[InputT]
    answer: type[AnswerT]
    check: Callable[[InputT], Failure | None]
    max_batch_size: int
    servable: str


YOLO = ModelSpec(
    name="yolo",
    input=Photo,
    answer=Detections,
    check=check_photo,
    max_batch_size=8,
    servable="runners.yolo:Yolo",
)
KCBERT = ModelSpec(
    name="kcbert",
    input=str,
    answer=Classification,
    check=check_text,
    max_batch_size=64,
    servable="runners.kcbert:KcBert",
)
SENTIMENT = ModelSpec(
    name="sentiment",
    input=str,
    answer=Classification,
    check=check_text,
    max_batch_size=64,
    servable="runners.sentiment:Sentiment",
)

# By name, in the order of `bunriwiki.artifacts.manifest.MODELS`.
SPECS: Mapping[str, ModelSpec[Any, Any]] = {spec.name: spec for spec in (YOLO, KCBERT, SENTIMENT)}
