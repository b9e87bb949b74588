"""Feedback tickets: what an answer said, signed, so that feedback can be given on answers that were given, and on no others.

A ticket is base64 (RFC 4648) of a MessagePack array and its message authentication code: keyed BLAKE2b (RFC 7693), which costs
less than half of `hmac.digest`. A ticket is signed, not encrypted: whoever has the answer may read it. It contains nothing of
the input.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import time
from binascii import b2a_base64
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Protocol

import msgspec

SIGNATURE_BYTES = 16
MAX_CHARACTERS = 4096  # of a ticket that is accepted
MAX_BYTES = 2048  # of a ticket that is issued: a header has to hold it in base64
PURPOSE = b"ticket 1"  # part of each key: the same secret signs nothing else


class Hash(Protocol):
    """What the functions of `hashlib` return."""

    def digest(self) -> bytes: ...


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


def _signing(secret: str) -> Callable[[bytes], Hash]:
    """The keyed hash, whose digest is the signature: a function that runs no Python code."""
    return partial(blake2b, key=blake2b(secret.encode(), person=PURPOSE).digest(), digest_size=SIGNATURE_BYTES)


class TicketIssuer:
    """Signs tickets with `secret`, which expire after `seconds`. `clock` returns the seconds since the epoch."""

    def __init__(self, secret: str, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._sign = _signing(secret)
        self._seconds = seconds
        self._clock = clock
        self._encode = msgspec.msgpack.Encoder().encode
        # Unique is enough, because a nonce is signed: random for each process, then counted, which takes no system call.
        self._process = os.urandom(10)
        self._number = 0

    def issue(self, model: str, version: str, labels: Sequence[tuple[str, float]], request_id: str) -> str | None:
        """A ticket for an answer; None if the answer names more classes than a header can hold."""
        self._number += 1
        expires = self._clock() + self._seconds
        content = self._encode((model, version, labels, request_id, self._process, self._number, expires))  # fields of Ticket
        if len(content) > MAX_BYTES:
            return None
        return b2a_base64(content + self._sign(content).digest(), newline=False).decode()


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
            whole = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise TicketError from None
        content, signature = whole[:-SIGNATURE_BYTES], whole[-SIGNATURE_BYTES:]
        matches = [hmac.compare_digest(sign(content).digest(), signature) for sign in self._signing]
        if not any(matches):
            raise TicketError
        try:
            ticket = self._decoder.decode(content)
        except msgspec.MsgspecError:  # signed by another version of this program
            raise TicketError from None
        if ticket.expires < self._clock():
            raise TicketExpiredError
        return ticket
