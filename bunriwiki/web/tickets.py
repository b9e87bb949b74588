"""Feedback tickets: what an answer said, signed, so that feedback can be given on answers that were given, and on no others.

A ticket is base64 (RFC 4648) of a MessagePack array and its message authentication code: keyed BLAKE2b (RFC 7693), which costs
a quarter of `hmac.digest`. A ticket is signed, not encrypted: whoever has the answer may read it. It contains nothing of the
input.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import itertools
import os
import time
from collections.abc import Callable, Sequence

import msgspec

SIGNATURE_BYTES = 16
MAX_CHARACTERS = 4096  # of a ticket that is accepted
MAX_BYTES = 2048  # of a ticket that is issued: a header has to hold it in base64
PURPOSE = b"ticket 1"  # part of each code: the same secret signs nothing else


class TicketError(Exception):
    """The ticket is not one of this service's."""


class TicketExpiredError(TicketError):
    """The ticket is one of this service's, and too old."""


class Ticket(msgspec.Struct, array_like=True, frozen=True):
    """What an answer said.

    `labels` are the classes that it named, with their scores; empty for a photo in which nothing was found. `nonce` is unique.
    `expires` is in seconds since the epoch. `request_id` is empty if the request had none.
    """

    model: str
    version: str
    labels: Sequence[tuple[str, float]]
    request_id: str
    nonce: bytes
    expires: int


class _Signer:
    """Signs with `secret`. The keyed hash is made once, and copied for each signature."""

    def __init__(self, secret: str) -> None:
        key = hashlib.blake2b(secret.encode()).digest()
        self._keyed = hashlib.blake2b(key=key, person=PURPOSE, digest_size=SIGNATURE_BYTES)

    def sign(self, content: bytes) -> bytes:
        signature = self._keyed.copy()
        signature.update(content)
        return signature.digest()


class TicketIssuer:
    """Signs tickets with `secret`, which expire after `seconds`. `clock` returns the seconds since the epoch."""

    def __init__(self, secret: str, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._signer = _Signer(secret)
        self._seconds = seconds
        self._clock = clock
        self._encoder = msgspec.msgpack.Encoder()
        # Unique is enough, because a nonce is signed: random for each process, then counted, which takes no system call.
        self._process = os.urandom(10)
        self._numbers = itertools.count()

    def issue(self, model: str, version: str, labels: Sequence[tuple[str, float]], request_id: str) -> str | None:
        """A ticket for an answer; None if the answer names more classes than a header can hold."""
        nonce = self._process + next(self._numbers).to_bytes(6)
        expires = int(self._clock() + self._seconds)
        content = self._encoder.encode((model, version, labels, request_id, nonce, expires))  # the fields of Ticket
        if len(content) > MAX_BYTES:
            return None
        return binascii.b2a_base64(content + self._signer.sign(content), newline=False).decode()


class TicketReader:
    """Reads tickets that were signed with one of `secrets`. `clock` returns the seconds since the epoch."""

    def __init__(self, secrets: Sequence[str], clock: Callable[[], float] = time.time) -> None:
        self._signers = [_Signer(secret) for secret in secrets]
        self._clock = clock
        self._decoder = msgspec.msgpack.Decoder(Ticket)

    def read(self, text: str) -> Ticket:
        """The content of a ticket. Raises TicketError (TicketExpiredError)."""
        if len(text) > MAX_CHARACTERS:
            raise TicketError
        try:
            whole = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise TicketError from None
        content, signature = whole[:-SIGNATURE_BYTES], whole[-SIGNATURE_BYTES:]
        matches = [hmac.compare_digest(signer.sign(content), signature) for signer in self._signers]
        if not any(matches):
            raise TicketError
        try:
            ticket = self._decoder.decode(content)
        except msgspec.MsgspecError:  # signed by another version of this program
            raise TicketError from None
        if ticket.expires < self._clock():
            raise TicketExpiredError
        return ticket
