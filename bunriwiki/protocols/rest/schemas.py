"""What goes over the wire: requests and answers of the REST door, as pydantic models."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from bunriwiki.artifacts.answers import Classification, Detection, Detections, ImageSize, Score
from bunriwiki.disposal.advice import Advice, Guide
from bunriwiki.protocols.handlers.dataplane import MAX_CHARACTERS


class TextRequest(BaseModel):
    """A text to classify."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = Field(
        min_length=1, max_length=MAX_CHARACTERS, pattern=r"\S", examples=["정말 재미있어요"], description="Korean text."
    )


class Recyclables(BaseModel):
    """The recyclables in a photo, the surest first."""

    detections: tuple[Detection, ...]
    image: ImageSize
    advice: dict[str, Advice | None] = Field(
        default_factory=dict,
        description="There with `advice=true` only: for each class found, by its label, how to dispose of it. "
        "Null for a class that has no advice.",
    )

    @classmethod
    def of(cls, answer: Detections, guide: Guide | None) -> Recyclables:
        advice = guide.on(one.label for one in answer.detections) if guide else {}
        return cls(detections=answer.detections, image=answer.image, advice=advice)


class HateSpeech(BaseModel):
    """The answer of `kcbert`."""

    label: str = Field(description="The surest class.", examples=["none"])
    score: Score = Field(ge=0, le=1)
    details: dict[str, Score] = Field(description="Every class's score; they sum to 1.")
    truncated: bool = Field(description="Whether the end of the text was not read: it is longer than what this version reads.")

    @classmethod
    def of(cls, answer: Classification) -> HateSpeech:
        return cls(label=answer.label, score=answer.score, details=answer.details, truncated=answer.truncated)


class Sentiment(BaseModel):
    """The answer of `sentiment`."""

    sentiment: str = Field(description="The surest class.", examples=["긍정"])
    score: Score = Field(ge=0, le=1)
    details: dict[str, Score] = Field(description="Every class's score; they sum to 1.")

    @classmethod
    def of(cls, answer: Classification) -> Sentiment:
        return cls(sentiment=answer.label, score=answer.score, details=answer.details)


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="A sentence that says what to do.")
    instance: str = Field(description="The path that was asked for.")
    request_id: str
