"""Where versions come from: each kind of registry in one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Offer:
    """The newest version of a model, as a registry names it.

    `digest` is another one as soon as anything of what is offered is another one; `uri` says to people where it lies.
    `signature` is what the registry has as the version's signature, unverified; the digest does not cover it.
    """

    model: str
    version: str
    digest: str
    uri: str
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of an offer: its path relative to the version's folder, its size in bytes, and its digest where that is known."""

    path: str
    size: int
    sha256: str | None = None


class Source(Protocol):
    """A registry. Safe to use from many threads."""

    def newest(self, model: str) -> Offer | None:
        """What `model` should be; None where the registry names no version. Cheap: it is asked at every look.

        Raises SourceError.
        """

    def files(self, offer: Offer) -> tuple[RemoteFile, ...]:
        """The files of `offer`, at least one. Raises SourceError and RejectedError."""

    def download(self, offer: Offer, file: RemoteFile, part: Path) -> None:
        """Have all bytes of `file` in `part`, which may hold the first ones already, from an attempt that was cut off.

        Raises SourceError and OSError (a full disk); then `part` may hold more than before.
        """
