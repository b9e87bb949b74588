"""Where the artifacts of an MLflow version may be: an allow-list.

Whoever registers a version chooses the location. Without the list, `file:///home/…` would be read with the sidecar's rights,
and any host be called.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote, urlsplit

from model_sync.errors import RejectedError

DEFAULT = "mlflow-artifacts"  # what the tracking server sends itself (`mlflow server --serve-artifacts`)
BY_HOST = frozenset({"http", "https", "ftp", "sftp", "hdfs", "viewfs", "dbfs"})  # schemes whose host must be stated
INDIRECT = frozenset({"models", "runs"})  # resolved before the check


@dataclass(frozen=True, slots=True)
class _Place:
    """A scheme, a host or bucket (None: any), and the path below which artifacts may be."""

    scheme: str
    host: str | None
    path: str

    @classmethod
    def parse(cls, text: str) -> Self:
        scheme, separator, _ = text.partition("://")
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) or scheme in INDIRECT:
            raise ValueError(f"{text!r} should be <scheme> or <scheme>://<host or bucket>, such as s3://bucket")
        parts = urlsplit(text if separator else f"{scheme}://")
        if scheme == "file" and not parts.path.strip("/"):
            raise ValueError("`file` requires a folder, such as file:///srv/mlruns")
        if scheme in BY_HOST and not parts.netloc:
            raise ValueError(f"`{scheme}` requires a host, such as {scheme}://artifacts.example.org")
        host = parts.netloc if separator else None
        return cls(scheme, host, _real(parts.path) if scheme == "file" else parts.path.rstrip("/"))

    def contains(self, scheme: str, host: str, path: str) -> bool:
        below = path == self.path or path.startswith(f"{self.path}/")
        return scheme == self.scheme and self.host in {None, host} and below


class ArtifactLocations:
    """The allow-list in `text`, separated by commas or spaces, for the tracking server at `tracking_uri`.

    An entry is a scheme, or a scheme with a host (or bucket) and a path. `mlflow-artifacts` without a host means the tracking
    server itself. Raises ValueError for an entry that is none, and for `file` without a folder or `http` without a host.
    """

    def __init__(self, text: str, tracking_uri: str = "") -> None:
        self._places = tuple(_Place.parse(entry) for entry in _entries(text))
        self._server = urlsplit(tracking_uri).netloc.rpartition("@")[2]

    def require(self, uri: str) -> None:
        """Check the location of a version, which is not indirect. Raises RejectedError."""
        parts = urlsplit(uri)
        scheme = parts.scheme or "file"
        path = _real(unquote(parts.path)) if scheme == "file" else parts.path
        host = parts.netloc
        if scheme == DEFAULT and host == self._server:
            host = ""
        if ".." not in unquote(parts.path).split("/") and any(
            self._allows(place, scheme, host, path) for place in self._places
        ):
            return
        shown = f"{scheme}://{host.rpartition('@')[2]}{parts.path}"[:200]
        raise RejectedError(
            f"its artifacts are at {shown}, which BUNRIWIKI_MLFLOW_ARTIFACTS does not allow. If they should be, add the scheme "
            "with its host or bucket, then take the version out of quarantine"
        )

    @staticmethod
    def _allows(place: _Place, scheme: str, host: str, path: str) -> bool:
        if scheme == DEFAULT and place.host is None and host:
            return False  # another server than the tracking server
        return place.contains(scheme, host, path)


def _entries(text: str) -> Iterable[str]:
    return (entry for entry in re.split(r"[\s,]+", text) if entry)


def _real(path: str) -> str:
    """The path without links, so that none leads out of an allowed folder."""
    return os.path.realpath(path or ".")
