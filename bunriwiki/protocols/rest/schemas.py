"""The bodies of requests and responses of the REST server, as pydantic models."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from bunriwiki.artifacts.answers import Classification, Detection, Detections, ImageSize, Score
from bunriwiki.artifacts.inputs import MAX_CHARACTERS
from bunriwiki.disposal.advice import Advice, Guide
from bunriwiki.web import problems


class TextRequest(BaseModel):
    """A text to classify."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = Field(
        min_length=1, max_length=MAX_CHARACTERS, pattern=r"\S", examples=["정말 재미있어요"], description="Korean text."
    )


class Recyclables(BaseModel):
    """The recyclables in a photo, by descending score."""

    detections: tuple[Detection, ...]
    image: ImageSize
    advice: dict[str, Advice | None] = Field(
        default_factory=dict,
        description="Only with `advice=true`: how to dispose of each class found, by label; null for a class without advice, "
        "and for one whose objects are all uncertain.",
    )

    @classmethod
    def of(cls, answer: Detections, guide: Guide | None) -> Recyclables:
        certain = {detection.label for detection in answer.detections if not detection.uncertain}
        found = guide.on(detection.label for detection in answer.detections) if guide else {}
        advice = {label: text if label in certain else None for label, text in found.items()}
        return cls(detections=answer.detections, image=answer.image, advice=advice)


class HateSpeech(BaseModel):
    """The answer of `kcbert`."""

    label: str = Field(description="The class with the highest score.", examples=["none"])
    score: Score = Field(ge=0, le=1)
    details: dict[str, Score] = Field(description="Every class's score; they sum to 1.")
    truncated: bool = Field(
        description="Whether the end of the text was not read, because it is longer than what this version reads."
    )

    @classmethod
    def of(cls, answer: Classification) -> HateSpeech:
        return cls(label=answer.label, score=answer.score, details=answer.details, truncated=answer.truncated)


class Sentiment(BaseModel):
    """The answer of `sentiment`."""

    sentiment: str = Field(description="The class with the highest score.", examples=["긍정"])
    score: Score = Field(ge=0, le=1)
    details: dict[str, Score] = Field(description="Every class's score; they sum to 1.")

    @classmethod
    def of(cls, answer: Classification) -> Sentiment:
        return cls(sentiment=answer.label, score=answer.score, details=answer.details)


class Problem(problems.Problem):
    """An error (RFC 9457)."""

    request_id: str
