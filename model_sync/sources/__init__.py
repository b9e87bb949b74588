"""The registries that versions come from: one file per kind of registry."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

MLFLOW_SIGNATURE_TAG = "bunriwiki.signature"  # of a model version
CHUNK = 1024 * 1024  # bytes of a download between two checks whether it is still wanted
CANCELLED = "the download was cancelled"
MAX_SIGNATURE_CHARACTERS = 1000  # that are read of a signature in a registry; a valid one has 88


@dataclass(frozen=True, slots=True)
class Offer:
    """The version of a model that its registry names as the newest.

    `digest` changes whenever anything in the version changes; `uri` is the version's location, for people. `signature` is what
    the registry holds as the version's signature, unverified; the digest does not cover it.
    """

    model: str
    version: str
    digest: str
    uri: str
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of an offer: its path relative to the version's folder, its size in bytes, and its SHA-256 if that is known."""

    path: str
    size: int
    sha256: str | None = None


class Source(Protocol):
    """A registry. Safe to use from many threads."""

    def newest(self, model: str) -> Offer | None:
        """The newest version of `model`; None if the registry names no version. Cheap, because every sync calls it.

        Raises SourceError.
        """

    def files(self, offer: Offer) -> tuple[RemoteFile, ...]:
        """The files of `offer`, at least one. Raises SourceError and RejectedError."""

    def download(self, offer: Offer, file: RemoteFile, part: Path, stop: threading.Event) -> None:
        """Write all bytes of `file` to `part`, which may hold the first bytes from an interrupted attempt.

        Raises SourceError, and OSError (a full disk, for example); then `part` may hold more bytes than before. Once `stop` is
        set, the import is not wanted any more: then a download that can be interrupted raises SourceError.
        """
