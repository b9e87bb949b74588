"""What happens to an answer besides being sent: it gets a ticket for feedback, and some answers are kept as samples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from bunriwiki.artifacts.answers import Classification, Detections
from bunriwiki.protocols.handlers.dataplane import Served
from bunriwiki.telemetry.samples import Sample, Sampler
from bunriwiki.web.tickets import TicketIssuer

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Feedback:
    """Issues tickets with `issuer`, and offers answers to `sampler`; None: there are no tickets, or no samples."""

    def __init__(self, issuer: TicketIssuer | None = None, sampler: Sampler | None = None) -> None:
        self._issuer = issuer
        self._sampler = sampler

    def tickets(self, inputs: Sequence[Any], answers: Sequence[Served[Any]], request_id: str) -> list[str]:
        """A ticket for each answer, in order; empty if there are none. Offers each answer to the sampler.

        A ticket is "" if the answer names more classes than a ticket can hold. `request_id` matches `REQUEST_ID`, or is empty.
        """
        if self._sampler is not None:
            for given, served in zip(inputs, answers, strict=True):
                if self._sampler.draws():
                    labels = predicted(served.answer)
                    self._sampler.keep(Sample(served.model, served.version, request_id, labels, given))
        if self._issuer is None:
            return []
        issue = self._issuer.issue
        return [issue(each.model, each.version, predicted(each.answer), request_id) or "" for each in answers]


def predicted(answer: Classification | Detections) -> list[tuple[str, float]]:
    """The classes that an answer names, with their scores: of the detections of a class, the highest."""
    if isinstance(answer, Classification):
        return [(answer.label, answer.score)]
    found: dict[str, float] = {}
    for detection in answer.detections:  # by descending score
        found.setdefault(detection.label, detection.score)
    return list(found.items())
