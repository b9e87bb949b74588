"""The models of this service: for each, the one specification that the data plane and the control plane share.

docs/new-model.md says how to add a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Generic, TypeVar

from bunriwiki.artifacts.answers import Classification, Detections, Failure
from bunriwiki.artifacts.inputs import Photo, photo_cost, text_cost

MAX_CALL_PIXELS = 256_000_000
MAX_BATCH_PIXELS = 8_000_000  # as many small photos as go in a batch; those in a batch wait for the most expensive one

InputT = TypeVar("InputT")
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec(Generic[InputT, AnswerT]):
    """What is the same for every version of a model.

    `input` and `answer` are types that msgspec can encode. `cost` returns what an input costs the runner, at least 1, or why it
    must not reach the runner; it runs in the event loop of the gateway, so it must take far less than a millisecond. Costs are
    compared with each other only. A runner gets at most `max_batch_size` inputs in a call, which cost at most `max_batch_cost`
    together, unless one alone costs more. The inputs of a client's call cost at most `max_call_cost` together; otherwise the
    client gets the sentence `too_expensive`. `servable` names the class that opens a version, as `module:class`; only the data
    plane imports it.
    """

    name: str
    input: type[InputT]
    answer: type[AnswerT]
    cost: Callable[[InputT], int | Failure]
    max_batch_size: int
    max_batch_cost: float = inf
    max_call_cost: float = inf
    too_expensive: str = ""
    servable: str


YOLO = ModelSpec(
    name="yolo",
    input=Photo,
    answer=Detections,
    cost=photo_cost,
    max_batch_size=8,
    max_batch_cost=MAX_BATCH_PIXELS,
    max_call_cost=MAX_CALL_PIXELS,
    too_expensive=(
        f"The images of the call count more than {MAX_CALL_PIXELS // 1_000_000} megapixels together. A baseline JPEG counts a "
        "quarter of its pixels, no image less than one megapixel, and a WebP that may be lossless no less than eight. "
        "Send fewer of them in a call, or smaller ones."
    ),
    servable="runners.yolo:Yolo",
)
KCBERT = ModelSpec(
    name="kcbert",
    input=str,
    answer=Classification,
    cost=text_cost,
    max_batch_size=64,
    servable="runners.kcbert:KcBert",
)
SENTIMENT = ModelSpec(
    name="sentiment",
    input=str,
    answer=Classification,
    cost=text_cost,
    max_batch_size=64,
    servable="runners.sentiment:Sentiment",
)

# By name, in the order of `bunriwiki.artifacts.manifest.MODELS`.
SPECS: Mapping[str, ModelSpec[Any, Any]] = {spec.name: spec for spec in (YOLO, KCBERT, SENTIMENT)}
