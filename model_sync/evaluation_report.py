"""What a version did when the data plane's own code tried it: `runners/trial.py` writes it, the gates judge it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from artifacts.answers import Classification, Detections, Failure

Answer = Classification | Detections | Failure


class Trial(BaseModel):
    """A version of one model beside the one that serves.

    `golden` says how the answers to golden samples differ from the original's, None for one that agrees. `reference` are the
    answers to the reference set in its order, asked for in batches, and `serving` those of the serving version where they
    were wanted. `single` are the answers to every `stride`-th input of the reference set, asked for one at a time.
    `milliseconds` are what the version and the serving one took for the same input, pair by pair.
    """

    model_config = ConfigDict(frozen=True)

    golden: tuple[str | None, ...]
    reference: tuple[Answer, ...]
    serving: tuple[Answer, ...]
    single: tuple[Answer, ...]
    stride: int
    milliseconds: tuple[tuple[float, float], ...]
