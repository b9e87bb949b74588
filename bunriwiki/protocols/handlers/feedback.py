"""What happens to an answer besides being sent: it gets a ticket for feedback, and some answers are kept as samples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from bunriwiki.artifacts.answers import Classification, Detections
from bunriwiki.protocols.handlers.dataplane import Served
from bunriwiki.telemetry.samples import Sample, Sampler
from bunriwiki.web.tickets import Issue

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Feedback:
    """Issues tickets with `issue`, and offers answers to `sampler`; None: there are no tickets, or no samples."""

    def __init__(self, issue: Issue | None = None, sampler: Sampler | None = None) -> None:
        self._issue = issue
        self._sampler = sampler

    def ticket(self, given: Any, served: Served[Any], request_id: str) -> str | None:
        """A ticket for the answer to `given`, which it offers to the sampler.

        None if there are no tickets, or if the answer names more classes than one can hold. `request_id` matches `REQUEST_ID`,
        or is empty.
        """
        if self._sampler is not None and self._sampler.draws():
            self._sampler.keep(Sample(served.model, served.version, request_id, predicted(served.answer), given))
        if self._issue is None:
            return None
        answer = served.answer
        # A call of `predicted` would be a fifth of what a ticket costs.
        labels = ((answer.label, answer.score),) if type(answer) is Classification else predicted(answer)
        return self._issue(served.model, served.version, labels, request_id)

    def tickets(self, inputs: Sequence[Any], answers: Sequence[Served[Any]], request_id: str) -> list[str]:
        """A ticket for each answer, in order: "" if it has none (see `ticket`). Empty if there are no tickets."""
        found = [self.ticket(given, served, request_id) or "" for given, served in zip(inputs, answers, strict=True)]
        return [] if self._issue is None else found


def predicted(answer: Classification | Detections) -> list[tuple[str, float]]:
    """The classes that an answer names, with their scores: of the detections of a class, the highest."""
    if isinstance(answer, Classification):
        return [(answer.label, answer.score)]
    found: dict[str, float] = {}
    for detection in answer.detections:  # by descending score
        found.setdefault(detection.label, detection.score)
    return list(found.items())
