"""The error that a client gets for an input that a runner could not answer."""

from __future__ import annotations

from bunriwiki.artifacts.answers import Failure
from bunriwiki.web import problems

_BY_KIND = {
    "broken": problems.broken,
    "invalid": problems.invalid,
    "unsupported": problems.unsupported,
    "too_large": problems.too_large,
    "internal": problems.internal,
}


def of_failure(failure: Failure) -> problems.RequestError:
    """The error with the failure's message."""
    return _BY_KIND[failure.kind](failure.message)
