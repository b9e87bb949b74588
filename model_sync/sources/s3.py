"""S3: `latest_model.yaml` below a prefix names the version of each model; the versions are below the same prefix."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import urllib3
from botocore.exceptions import BotoCoreError, ClientError

from model_sync.errors import RejectedError, SourceError
from model_sync.s3_client import (
    NOT_FOUND,
    PRECONDITION_FAILED,
    READ_PERMISSIONS,
    S3Location,
    connect,
    describe_error,
    error_code,
)
from model_sync.sources import CANCELLED, CHUNK, Offer, RemoteFile
from model_sync.sources.digests import digest_of
from model_sync.sources.latest_model import LATEST_MODEL, MAX_BYTES, FullEntry, LatestModel, ShortEntry

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import GetObjectOutputTypeDef

READ_TIMEOUT = 15  # seconds
MAX_ATTEMPTS = 2  # per request: the next sync tries again anyway
MIN_SPEED = 16 * 1024  # bytes per second
SPEED_WINDOW = 10.0  # seconds over which the speed is measured
OBJECT_CHANGED = PRECONDITION_FAILED | {"InvalidRange", "416"}


@dataclass(slots=True)
class _Offered:
    """The details of the last offer of a model.

    `entry` is None for the short form. `etags` has, by key, the ETag of every object seen so far.
    """

    digest: str
    folder: str
    files: tuple[RemoteFile, ...]
    entry: FullEntry | None
    etags: dict[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[str | None, ...]:
        """What tells two offers apart, bounded in size."""
        return self.entry.identity if self.entry else (self.digest,)


class S3Source:
    """The registry at `uri` (`s3://bucket/prefix`); AWS's own variables configure the client.

    A download that is slower than `min_speed` bytes per second is aborted. `newest` takes one conditional GET, and also a LIST
    for a model in the short form, which requires `s3:ListBucket`. Raises ValueError for an invalid `uri`.
    """

    def __init__(self, uri: str, client: S3Client | None = None, *, min_speed: float = MIN_SPEED) -> None:
        self._location = S3Location.parse(uri)
        self._client = client or connect(read_timeout=READ_TIMEOUT, max_attempts=MAX_ATTEMPTS)
        self._min_speed = min_speed
        self._reading_latest = threading.Lock()
        self._latest_requested = float("-inf")  # when the last GET of latest_model.yaml began, of time.monotonic()
        self._latest: LatestModel | None = None
        self._latest_etag = ""
        self._offered: dict[str, _Offered] = {}

    def newest(self, model: str) -> Offer | None:
        """The version that `latest_model.yaml` names; None if it does not name `model`. Raises SourceError."""
        entry = self._read_latest().of(model)
        if entry is None:
            return None
        if isinstance(entry, FullEntry):
            files = tuple(RemoteFile(file.path, file.size, file.sha256) for file in entry.files)
            offered = _Offered(entry.digest, self._location.key(entry.path), files, entry)
            version = entry.version
        else:
            offered, version = self._list(model, entry)
        known = self._offered.get(model)
        if known is None or known.identity != offered.identity:
            self._offered[model] = offered
        signature = offered.entry.signature if offered.entry else None  # the short form cannot carry a signature
        return Offer(model, version, offered.digest, self._location.uri(self._location.key(entry.path)), signature)

    def files(self, offer: Offer) -> tuple[RemoteFile, ...]:
        """The files of the newest offer. Raises SourceError for an older offer."""
        return self._find(offer).files

    def download(self, offer: Offer, file: RemoteFile, part: Path, stop: threading.Event) -> None:
        """Download the bytes that `part` lacks; if the object has changed meanwhile, `part` is deleted.

        In the short form, every byte comes from the objects that were listed. In the full form, that holds only within this
        process: the SHA-256 detects a `part` that an earlier process left of another object. Raises SourceError (also once
        `stop` is set), OSError, and RejectedError if the object's size differs from that in `latest_model.yaml`.
        """
        offered = self._find(offer)
        key = f"{offered.folder}/{file.path}" if offered.folder else file.path
        have = part.stat().st_size if part.exists() else 0
        if have == file.size > 0:
            return
        if have > file.size:
            part.unlink()
            have = 0
        answer = self._open(offered, key, have, part)
        ranged = re.fullmatch(r"bytes \d+-\d+/(\d+)", answer.get("ContentRange", ""))
        size = int(ranged[1]) if ranged else answer.get("ContentLength")
        if size != file.size:
            answer["Body"].close()
            message = f"{file.path} has {size} bytes in S3, {LATEST_MODEL} says {file.size}"
            raise RejectedError(message) if offered.entry else SourceError(message)  # the short form states no size
        offered.etags.setdefault(key, answer.get("ETag", ""))
        with part.open("ab" if ranged else "wb") as stream, closing(self._chunks(answer, key)) as chunks:
            for chunk in chunks:
                if stop.is_set():
                    raise SourceError(CANCELLED)
                stream.write(chunk)

    def _open(self, offered: _Offered, key: str, have: int, part: Path) -> GetObjectOutputTypeDef:
        """The object from byte `have` on, if its ETag has not changed. Otherwise `part` is deleted."""
        conditions: dict[str, Any] = {"Range": f"bytes={have}-"} if have else {}
        if etag := offered.etags.get(key):
            conditions["IfMatch"] = etag
        try:
            return self._client.get_object(Bucket=self._location.bucket, Key=key, **conditions)
        except ClientError as error:
            if error_code(error) in NOT_FOUND:
                message = f"{self._location.uri(key)} does not exist: publish it before {LATEST_MODEL} names it"
                raise SourceError(message) from error  # it may still be being uploaded
            if error_code(error) in OBJECT_CHANGED:
                part.unlink(missing_ok=True)
                if offered.entry:  # the new object is accepted if its SHA-256 matches
                    offered.etags.pop(key, None)
                raise SourceError(f"{self._location.uri(key)} changed during the download") from error
            raise self._source_error(error, key) from error
        except BotoCoreError as error:
            raise self._source_error(error, key) from error

    def _read_latest(self) -> LatestModel:
        """The file as of this call. Callers share a GET that began after they called; an earlier one could be stale."""
        called = time.monotonic()
        with self._reading_latest:
            if self._latest is None or self._latest_requested < called:
                began = time.monotonic()
                self._latest = self._get_latest()
                self._latest_requested = began
            return self._latest

    def _get_latest(self) -> LatestModel:
        key = self._location.key(LATEST_MODEL)
        condition: dict[str, Any] = {"IfNoneMatch": self._latest_etag} if self._latest_etag else {}
        try:
            answer = self._client.get_object(Bucket=self._location.bucket, Key=key, **condition)
        except ClientError as error:
            if error_code(error) in {"304", "NotModified"} and self._latest:
                return self._latest
            if error_code(error) in NOT_FOUND:
                raise SourceError(f"{self._location.uri(key)} does not exist yet: publish a version") from error
            raise self._source_error(error, key) from error
        except BotoCoreError as error:
            raise self._source_error(error, key) from error
        text = bytearray()
        for chunk in self._chunks(answer, key):
            text += chunk
            if len(text) > MAX_BYTES:  # parse() rejects it
                answer["Body"].close()
                break
        latest = LatestModel.parse(bytes(text))
        self._latest_etag = answer.get("ETag", "")
        return latest

    def _list(self, model: str, entry: ShortEntry) -> tuple[_Offered, str]:
        """The objects at the path of a short entry, and the version's name."""
        path = self._location.key(entry.path)
        found: dict[str, tuple[str, int]] = {}
        try:
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._location.bucket, Prefix=path):
                found |= {item["Key"]: (item["ETag"], item["Size"]) for item in page.get("Contents", [])}
        except (BotoCoreError, ClientError) as error:
            raise self._source_error(error, path) from error
        is_file = path in found
        # Some tools create an empty object whose key ends in / for each folder.
        keys = [path] if is_file else sorted(key for key in found if key.startswith(f"{path}/") and not key.endswith("/"))
        if not keys:
            raise SourceError(f"{LATEST_MODEL} names {self._location.uri(path)} for {model}, which does not exist: upload it")
        digest = digest_of([[key, *found[key]] for key in keys])
        folder = path.rpartition("/")[0] if is_file else path
        files = tuple(RemoteFile(key.removeprefix(f"{folder}/"), found[key][1]) for key in keys)
        offered = _Offered(digest, folder, files, entry=None, etags={key: found[key][0] for key in keys})
        return offered, entry.version(model, digest, is_file=is_file)

    def _find(self, offer: Offer) -> _Offered:
        offered = self._offered.get(offer.model)
        if offered is None or offered.digest != offer.digest:
            raise SourceError(
                f"{offer.model} {offer.version} is no longer the newest version: the next sync imports the newest"
            )
        return offered

    def _chunks(self, answer: GetObjectOutputTypeDef, key: str) -> Generator[bytes]:
        """The body of an answer as it arrives. Raises SourceError if it arrives too slowly or ends too early."""
        body: Any = answer["Body"]
        stream = body._raw_stream  # botocore's read() returns whole chunks only: a very slow server would block it for hours
        missing = answer.get("ContentLength", 0)
        began, received = time.monotonic(), 0
        try:
            while chunk := stream.read1(CHUNK):
                yield chunk
                missing -= len(chunk)
                received += len(chunk)
                seconds = time.monotonic() - began
                if seconds >= SPEED_WINDOW:
                    speed = received / seconds
                    if speed < self._min_speed:
                        raise SourceError(
                            f"S3 sends {self._location.uri(key)} at {speed:.0f} bytes/s, the minimum is {self._min_speed:.0f}: "
                            "check the network"
                        )
                    began, received = time.monotonic(), 0
        except urllib3.exceptions.ReadTimeoutError as error:
            raise SourceError(f"S3 stopped sending {self._location.uri(key)}") from error
        except urllib3.exceptions.HTTPError as error:
            raise SourceError(f"the connection to S3 ended within {self._location.uri(key)}") from error
        finally:
            body.close()
        if missing > 0:  # urllib3 does not always raise for a short body
            raise SourceError(f"the connection to S3 ended within {self._location.uri(key)}")

    def _source_error(self, error: BotoCoreError | ClientError, key: str) -> SourceError:
        return SourceError(describe_error(error, self._location.uri(key), self._client, READ_PERMISSIONS).message)
