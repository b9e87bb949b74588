"""Publishes versions to a bucket, as a data scientist does, and the message that S3 sends of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml

from bunriwiki.testing.seaweedfs import SeaweedFS

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PREFIX = "registry"


class Bucket(Protocol):
    """An S3 server with a bucket."""

    BUCKET: str

    def client(self) -> S3Client: ...


def s3_environment(s3: SeaweedFS) -> dict[str, str]:
    """The variables with which the sidecar syncs with the bucket of `s3`."""
    return {**s3.environment, "BUNRIWIKI_S3_URI": f"s3://{s3.BUCKET}/{PREFIX}"}


class Publisher:
    """Writes the files of a version, then `latest_model.yaml`."""

    def __init__(self, s3: Bucket) -> None:
        self._client: S3Client = s3.client()
        self._bucket = s3.BUCKET
        self.latest: dict[str, Any] = {}

    def upload(self, model: str, version: str, files: Iterable[tuple[str, bytes]]) -> None:
        """Write the files of a version, and note its entry for the next `latest_model.yaml`."""
        listed = []
        for path, data in files:
            self._put(f"{model}/{version}/{path}", data)
            listed.append({"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()})
        self.latest[model] = {"version": version, "path": f"{model}/{version}", "files": listed}

    def announce(self) -> None:
        """Write `latest_model.yaml`."""
        self._put("latest_model.yaml", yaml.safe_dump(self.latest, allow_unicode=True).encode())

    def publish(self, model: str, version: str, source: Path) -> None:
        """Publish a file, or a folder with everything below it."""
        self.upload(model, version, files_of(source))
        self.announce()

    def overwrite(self, model: str, path: str, data: bytes) -> None:
        """Replace a file of the newest version without a word in `latest_model.yaml`."""
        self._put(f"{model}/{self.latest[model]['version']}/{path}", data)

    def _put(self, key: str, data: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=f"{PREFIX}/{key}", Body=data)


def files_of(source: Path) -> list[tuple[str, bytes]]:
    """The files at `source`, with their paths below it."""
    if source.is_file():
        return [(source.name, source.read_bytes())]
    paths = sorted(path for path in source.rglob("*") if path.is_file() and path.suffix != ".md")
    return [(path.relative_to(source).as_posix(), path.read_bytes()) for path in paths]


def notification(bucket: str, *, key: str = f"{PREFIX}/latest_model.yaml") -> str:
    """The message that S3 sends to a queue when the object `key` was written."""
    record = {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": key}},
    }
    return json.dumps({"Records": [record]})
