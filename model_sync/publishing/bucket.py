"""The bucket that versions are published to. S3's errors become PublishError."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from model_sync.errors import PublishError
from model_sync.s3_client import (
    NOT_FOUND,
    PRECONDITION_FAILED,
    PUBLISH_PERMISSIONS,
    S3Location,
    connect,
    describe_error,
    error_code,
)

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

READ_TIMEOUT = 60  # seconds
MAX_ATTEMPTS = 4  # per request
TRANSFER = TransferConfig(multipart_threshold=16 * 2**20, multipart_chunksize=16 * 2**20, max_concurrency=4)
CONFLICT = PRECONDITION_FAILED | {"ConditionalRequestConflict", "409"}


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An object: its path relative to a folder, its size in bytes, and its SHA-256 if it was uploaded with that metadata."""

    path: str
    size: int
    sha256: str | None


class Bucket:
    """The objects below `uri` (`s3://bucket/prefix`). Every method raises PublishError; so does an invalid `uri`."""

    def __init__(self, uri: str, client: S3Client | None = None) -> None:
        try:
            self._location = S3Location.parse(uri)
        except ValueError as error:
            raise PublishError("settings", f"{error}: set BUNRIWIKI_S3_URI.") from error
        self._client = client or connect(read_timeout=READ_TIMEOUT, max_attempts=MAX_ATTEMPTS)

    def uri(self, path: str) -> str:
        """The URI of the object at `path`."""
        return self._location.uri(self._location.key(path))

    def list_files(self, folder: str) -> Iterator[StoredFile]:
        """The objects below `folder`."""
        prefix = self._location.key(folder) + "/"
        with self._publish_errors(folder):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._location.bucket, Prefix=prefix):
                for item in page.get("Contents", []):
                    path = item["Key"].removeprefix(prefix)
                    if not path or path.endswith("/"):  # the empty object that some tools create for a folder
                        continue
                    head = self._client.head_object(Bucket=self._location.bucket, Key=item["Key"])
                    yield StoredFile(path, head["ContentLength"], head["Metadata"].get("sha256"))

    def upload(self, file: Path, path: str, sha256: str, sent: Callable[[int], None]) -> None:
        """Upload `file` to `path`; `sent` is called with the bytes sent since the last call, from several threads."""
        with self._publish_errors(path):
            self._client.upload_file(
                Filename=str(file),
                Bucket=self._location.bucket,
                Key=self._location.key(path),
                ExtraArgs={"Metadata": {"sha256": sha256}},
                Callback=sent,
                Config=TRANSFER,
            )

    def read(self, path: str, max_bytes: int) -> tuple[bytes, str | None]:
        """The first `max_bytes` of the object at `path`, and its ETag; `b""` and None if there is no object."""
        with self._publish_errors(path):
            try:
                answer = self._client.get_object(Bucket=self._location.bucket, Key=self._location.key(path))
            except ClientError as error:
                if error_code(error) in NOT_FOUND:
                    return b"", None
                raise
            return answer["Body"].read(max_bytes), answer["ETag"]

    def replace(self, path: str, data: bytes, etag: str | None) -> bool:
        """Write the object at `path` if its ETag is still `etag` (None: if it still does not exist); whether it did."""
        condition: dict[str, Any] = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        with self._publish_errors(path):
            try:
                self._client.put_object(Bucket=self._location.bucket, Key=self._location.key(path), Body=data, **condition)
            except ClientError as error:
                if error_code(error) in CONFLICT:
                    return False
                raise
        return True

    @contextmanager
    def _publish_errors(self, path: str) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError, S3UploadFailedError) as error:
            problem = describe_error(error, self.uri(path), self._client, PUBLISH_PERMISSIONS)
            raise PublishError(problem.kind, f"{problem.message}.") from error
        except OSError as error:
            raise PublishError("failed", f"A file cannot be read: {error}.") from error
