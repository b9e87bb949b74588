"""The answers of the models, and how class scores become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Generic, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from pydantic import Field

from bunriwiki.artifacts.manifest import Label

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels of the upright photo
Score = float  # a probability, 0..1, rounded to DECIMALS
DECIMALS = 6
# Bounded where frames are decoded: a number of a sandboxed runner must not make a counter useless.
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**40)]

AnswerT = TypeVar("AnswerT")


# Plain dataclasses: msgspec encodes them between runner and gateway (bunriwiki/ipc/frames.py), and pydantic models (samples,
# schemas) take them as fields without a copy.
@dataclass(frozen=True, slots=True)
class Detection:
    """One object in a photo; `box` is x1, y1, x2, y2 in pixels of the upright photo.

    An object is uncertain if something is there, but its class is not sure enough to act on.
    """

    label: Annotated[str, Field(description="The model's own class name.", examples=["plastic"])]
    label_ko: Annotated[
        str, Field(description="The class name in Korean, or that the material is unknown.", examples=["플라스틱"])
    ]
    score: Annotated[Score, Field(ge=0, le=1, description="The confidence.")]
    box: Annotated[Box, Field(description="x1, y1, x2, y2 in pixels of the upright photo.")]
    uncertain: Annotated[
        bool, Field(description="Whether the class is too unclear to act on; `label` is then the most likely one.")
    ] = False
    how_to_tell: Annotated[
        str | None, Field(description="Only of an uncertain object: how a person can find out its material, in Korean.")
    ] = None


@dataclass(frozen=True, slots=True)
class ImageSize:
    """The size of the photo in pixels, after its EXIF orientation was applied."""

    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True)
class Detections:
    """The recyclables in a photo, by descending score."""

    detections: tuple[Detection, ...]
    image: ImageSize


@dataclass(frozen=True, slots=True)
class Classification:
    """The class of a text with the highest score, and the scores of all classes in `details`; they sum to 1.

    `truncated`: the end of the text was not read.
    """

    label: str
    score: Score
    details: dict[str, Score]
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an input has no answer: a sentence for the client, and the kind of the error."""

    kind: Literal["broken", "invalid", "unsupported", "too_large", "internal"]
    message: str


class Work(NamedTuple):
    """What a batch cost the runner: seconds of decoding or tokenizing and of the forward passes, and the tokens in these.

    `tokens` includes `padding_tokens`; both are 0 where the runner does not know them.
    """

    preprocess_seconds: Seconds = 0.0
    forward_seconds: Seconds = 0.0
    tokens: Count = 0
    padding_tokens: Count = 0


NO_WORK = Work()


class Ran(NamedTuple):
    """When a runner's worker began and ended a batch, in nanoseconds since the epoch, and its process id."""

    began_ns: Nanoseconds
    ended_ns: Nanoseconds
    process: Count


@dataclass(frozen=True, slots=True)
class Answers(Generic[AnswerT]):
    """One result per input of a batch, in order, and the version that answered.

    `results` is empty if the requested version is not in the runner's memory; `version` then names the one that it serves.
    `measured` are features of the inputs (`bunriwiki/artifacts/features.py`) that were at hand while they were answered, one
    value per input; they stay in the runner. `ran` is set for a batch that is recorded in a trace.
    """

    model: str
    version: str
    results: tuple[AnswerT | Failure, ...]
    work: Work = NO_WORK
    measured: Mapping[str, Sequence[float]] = field(default_factory=dict)
    ran: Ran | None = None


def classification(scores: npt.NDArray[np.float32], labels: Sequence[Label], truncated: bool = False) -> Classification:
    """The answer for one row of class scores, [classes]. Scores are normalized to a sum of 1; negative ones count as 0."""
    shares = np.clip(scores.astype(np.float64), 0, None)
    rounded = [round(float(share), DECIMALS) for share in shares / shares.sum()]
    winner = int(np.argmax(shares))
    return Classification(
        label=labels[winner].name,
        score=rounded[winner],
        details={label.name: share for label, share in zip(labels, rounded, strict=True)},
        truncated=truncated,
    )
