"""Feedback tickets: what an answer said, signed, so that feedback can be given on answers that were given, and on no others.

A ticket is a MessagePack array and its message authentication code, in hexadecimal digits. The code is keyed BLAKE2b (RFC
7693), which takes less than half as long as `hmac.digest`. Base64 would be shorter, and takes several times as long where the
caches are cold. A ticket is signed, not encrypted: whoever has the answer may read it. It contains nothing of the input.
"""

from __future__ import annotations

import binascii
import hmac
import os
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import count

import msgspec

SIGNATURE_BYTES = 16
MAX_CHARACTERS = 4096  # of a ticket that is accepted
MAX_BYTES = 1400  # of the array in a ticket that is issued: a header has to hold its digits
PURPOSE = b"ticket 1"  # part of each key: the same secret signs nothing else

# Signs an answer: model, version, classes with scores, request id. None if it names more classes than a header can hold.
Issue = Callable[[str, str, Sequence[tuple[str, float]], str], str | None]


class TicketError(Exception):
    """The ticket is not one of this service's."""


class TicketExpiredError(TicketError):
    """The ticket is one of this service's, and too old."""


class Ticket(msgspec.Struct, array_like=True, frozen=True):
    """What an answer said.

    `labels` are the classes that it named, with their scores; empty for a photo in which nothing was found. `number` is unique
    in the `process` that issued the ticket. `expires` is in seconds since the epoch. `request_id` is empty if the request had
    none.
    """

    model: str
    version: str
    labels: Sequence[tuple[str, float]]
    request_id: str
    process: bytes
    number: int
    expires: float

    @property
    def nonce(self) -> bytes:
        """No other ticket has the same."""
        return self.process + self.number.to_bytes(8)


def _signing(secret: str) -> Callable[[], blake2b]:
    """Begins a signature: a copy of the keyed hash, which has its key already."""
    return blake2b(key=blake2b(secret.encode(), person=PURPOSE).digest(), digest_size=SIGNATURE_BYTES).copy


def ticket_issuer(secret: str, seconds: float, clock: Callable[[], float] = time.time) -> Issue:
    """Signs tickets with `secret`, which expire after `seconds`. `clock` returns the seconds since the epoch.

    A function, because a method would look up each of these names in its object, for every answer.
    """
    begin_signature = _signing(secret)
    encode = msgspec.msgpack.Encoder().encode
    # Unique is enough, because a nonce is signed: random for each process, then counted, which takes no system call.
    process, number = os.urandom(10), count(1).__next__

    def issue(model: str, version: str, labels: Sequence[tuple[str, float]], request_id: str) -> str | None:
        content = encode((model, version, labels, request_id, process, number(), clock() + seconds))  # the fields of Ticket
        if len(content) > MAX_BYTES:
            return None
        signature = begin_signature()
        signature.update(content)
        return (content + signature.digest()).hex()

    return issue


class TicketReader:
    """Reads tickets that were signed with one of `secrets`. `clock` returns the seconds since the epoch."""

    def __init__(self, secrets: Sequence[str], clock: Callable[[], float] = time.time) -> None:
        self._signing = [_signing(secret) for secret in secrets]
        self._clock = clock
        self._decoder = msgspec.msgpack.Decoder(Ticket)

    def read(self, text: str) -> Ticket:
        """The content of a ticket. Raises TicketError (TicketExpiredError)."""
        if len(text) > MAX_CHARACTERS:
            raise TicketError
        try:
            whole = binascii.unhexlify(text)
        except (binascii.Error, ValueError):
            raise TicketError from None
        content, signature = whole[:-SIGNATURE_BYTES], whole[-SIGNATURE_BYTES:]
        matches = [_is_signed(content, signature, begin) for begin in self._signing]
        if not any(matches):
            raise TicketError
        try:
            ticket = self._decoder.decode(content)
        except msgspec.MsgspecError:  # signed by another version of this program
            raise TicketError from None
        if ticket.expires < self._clock():
            raise TicketExpiredError
        return ticket


def _is_signed(content: bytes, signature: bytes, begin: Callable[[], blake2b]) -> bool:
    expected = begin()
    expected.update(content)
    return hmac.compare_digest(expected.digest(), signature)
