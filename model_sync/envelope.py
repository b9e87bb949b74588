"""A signature as the registries hold it: `<counter>.<expires>.<base64>`, or base64 alone if it was made without a counter."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from typing import Self

BYTES = 64  # of an Ed25519 signature
MAX_DIGITS = 15  # of a counter and an expiry
DAY_SECONDS = 86_400
DEFAULT_DAYS = 365  # for which a signature is valid for an import


@dataclass(frozen=True, slots=True)
class Validity:
    """What a signature says beside the version, and covers.

    `counter` is higher in each signature of a model than in those before; `expires` is the time, in seconds since the epoch,
    from which on no import accepts it.
    """

    counter: int
    expires: int

    @classmethod
    def from_now(cls, days: float = DEFAULT_DAYS) -> Self:
        """From now on for so many days. The counter is the time in seconds, so that publishers need not share a counter."""
        now = int(time.time())
        return cls(now, now + int(days * DAY_SECONDS))


@dataclass(frozen=True, slots=True)
class Envelope:
    """The 64 bytes of a signature, and its `validity`; None if it has none."""

    signature: bytes
    validity: Validity | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        *numbers, encoded = text.strip().split(".")
        signature = base64.b64decode(encoded, validate=True)
        if len(signature) != BYTES or len(numbers) not in {0, 2}:
            raise ValueError("not a signature")
        if not numbers:
            return cls(signature, None)
        if any(not number.isascii() or not number.isdecimal() or len(number) > MAX_DIGITS for number in numbers):
            raise ValueError("not a counter and an expiry")
        return cls(signature, Validity(int(numbers[0]), int(numbers[1])))

    def __str__(self) -> str:
        encoded = base64.b64encode(self.signature).decode()
        return f"{self.validity.counter}.{self.validity.expires}.{encoded}" if self.validity else encoded
