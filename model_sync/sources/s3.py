"""S3: `latest_model.yaml` under a prefix names the version of each model, which lies under the same prefix."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import urllib3
from botocore import exceptions as boto
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from model_sync.errors import RejectedError, SourceError
from model_sync.sources import Offer, RemoteFile
from model_sync.sources.latest_model import LATEST_MODEL, MAX_BYTES, FullEntry, LatestModel, ShortEntry, digest_of

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import GetObjectOutputTypeDef

MIN_SPEED = 16 * 1024  # bytes per second
SPEED_WINDOW = 10.0  # seconds over which the speed is measured
CHUNK = 1024 * 1024  # bytes
MISSING = {"NoSuchKey", "404", "NotFound"}
CHANGED = {"PreconditionFailed", "412", "InvalidRange", "416"}

UNREACHABLE = (boto.ConnectionError, boto.HTTPClientError)
NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.TokenRetrievalError,
)
MEANINGS = {  # by S3's code: what is wrong and what to do
    "ExpiredToken": "the credentials have expired: renew them",
    "TokenRefreshRequired": "the credentials have expired: renew them",
    "InvalidToken": "the session token is not valid: check AWS_SESSION_TOKEN",
    "InvalidAccessKeyId": "the access key is not known there: check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key does not fit the access key: check AWS_SECRET_ACCESS_KEY",
    "RequestTimeTooSkewed": "this machine's clock is off by more than 15 minutes: set it",
    "AccessDenied": "the credentials do not allow it: they need s3:GetObject and s3:ListBucket there",
    "403": "the credentials do not allow it: they need s3:GetObject and s3:ListBucket there",
    "NoSuchBucket": "the bucket does not exist: create it, or correct its name",
    "PermanentRedirect": "the bucket is in another region: set AWS_DEFAULT_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set AWS_DEFAULT_REGION",
}


@dataclass(slots=True)
class _Offered:
    """What was offered of a model: `entry` is None in the short form; `etags`, by key, of the objects that were seen."""

    digest: str
    folder: str
    files: tuple[RemoteFile, ...]
    entry: FullEntry | None
    etags: dict[str, str] = field(default_factory=dict)


class S3Source:
    """The registry at `uri` (`s3://bucket/prefix`), reached with AWS's own variables.

    A download slower than `least_speed` bytes per second is given up. A look costs one conditional GET; for a model in the
    short form also one LIST, which needs `s3:ListBucket`. Raises ValueError for a `uri` that is none.
    """

    def __init__(self, uri: str, client: S3Client | None = None, *, least_speed: float = MIN_SPEED) -> None:
        scheme, _, place = uri.partition("://")
        self._bucket, _, prefix = place.partition("/")
        self._prefix = prefix.strip("/")
        if scheme != "s3" or not self._bucket:
            raise ValueError(f"{uri!r} should look like s3://bucket/prefix")
        self._client = client or connect()
        self._least_speed = least_speed
        self._asking = threading.Lock()
        self._asked = float("-inf")  # when the last GET of latest_model.yaml began
        self._latest: LatestModel | None = None
        self._etag = ""
        self._offered: dict[str, _Offered] = {}

    def newest(self, model: str) -> Offer | None:
        """What `latest_model.yaml` names; None when it does not name `model`. Raises SourceError."""
        entry = self._read_latest().of(model)
        if entry is None:
            return None
        if isinstance(entry, FullEntry):
            files = tuple(RemoteFile(file.path, file.size, file.sha256) for file in entry.files)
            offered = _Offered(entry.digest, self._key_of(entry.path), files, entry)
            version = entry.version
        else:
            offered, version = self._list(model, entry)
        known = self._offered.get(model)
        if known is None or known.digest != offered.digest or known.entry != offered.entry:
            self._offered[model] = offered
        signature = offered.entry.signature if offered.entry else None  # the short form has no place for one
        return Offer(model, version, offered.digest, self._uri(self._key_of(entry.path)), signature)

    def files(self, offer: Offer) -> tuple[RemoteFile, ...]:
        """The files of the newest offer. Raises SourceError for an older one."""
        return self._find(offer).files

    def download(self, offer: Offer, file: RemoteFile, part: Path) -> None:
        """Fetch what is missing of `part`. When the object changed meanwhile, it begins from zero.

        The short form's objects are held to what was listed. In the full form that is so within this process; what a part of an
        earlier one holds is for the sha256 to tell. Raises SourceError, OSError, and RejectedError for an object that has
        another size than `latest_model.yaml` says.
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
            raise _wrong(offered, f"{file.path} has {size} bytes in S3, {LATEST_MODEL} says {file.size}")
        offered.etags.setdefault(key, answer.get("ETag", ""))
        with part.open("ab" if ranged else "wb") as stream:
            for chunk in self._chunks(answer, key):
                stream.write(chunk)

    def _open(self, offered: _Offered, key: str, have: int, part: Path) -> GetObjectOutputTypeDef:
        """The object from byte `have` on, if it is still the one that was seen. If not, `part` is deleted."""
        conditions: dict[str, Any] = {"Range": f"bytes={have}-"} if have else {}
        if etag := offered.etags.get(key):
            conditions["IfMatch"] = etag
        try:
            return self._client.get_object(Bucket=self._bucket, Key=key, **conditions)
        except ClientError as error:
            if code_of(error) in MISSING:
                message = f"{self._uri(key)} does not exist: publish it before {LATEST_MODEL} names it"
                raise SourceError(message) from error  # its upload may go on
            if code_of(error) in CHANGED:
                part.unlink(missing_ok=True)
                if offered.entry:  # its sha256 will tell
                    offered.etags.pop(key, None)
                raise SourceError(f"{self._uri(key)} changed while it was fetched") from error
            raise self._plainly(error, key) from error
        except BotoCoreError as error:
            raise self._plainly(error, key) from error

    def _read_latest(self) -> LatestModel:
        """The file as it is now. A request is shared by those who asked before it began: for others it could be too old."""
        asked = time.monotonic()
        with self._asking:
            if self._latest is None or self._asked < asked:
                began = time.monotonic()
                self._latest = self._get_latest()
                self._asked = began
            return self._latest

    def _get_latest(self) -> LatestModel:
        key = self._key_of(LATEST_MODEL)
        condition: dict[str, Any] = {"IfNoneMatch": self._etag} if self._etag else {}
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=key, **condition)
        except ClientError as error:
            if code_of(error) in {"304", "NotModified"} and self._latest:
                return self._latest
            if code_of(error) in MISSING:
                raise SourceError(f"{self._uri(key)} does not exist yet: publish one") from error
            raise self._plainly(error, key) from error
        except BotoCoreError as error:
            raise self._plainly(error, key) from error
        text = bytearray()
        for chunk in self._chunks(answer, key):
            text += chunk
            if len(text) > MAX_BYTES:  # parsing says so
                answer["Body"].close()
                break
        latest = LatestModel.parse(bytes(text))
        self._etag = answer.get("ETag", "")
        return latest

    def _list(self, model: str, entry: ShortEntry) -> tuple[_Offered, str]:
        """What lies at a short form's path, and its version."""
        path = self._key_of(entry.path)
        found: dict[str, tuple[str, int]] = {}
        try:
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=path):
                found |= {one["Key"]: (one["ETag"], one["Size"]) for one in page.get("Contents", [])}
        except (BotoCoreError, ClientError) as error:
            raise self._plainly(error, path) from error
        is_file = path in found
        # A key that ends in / is a folder that some tools make visible.
        keys = [path] if is_file else sorted(key for key in found if key.startswith(f"{path}/") and not key.endswith("/"))
        if not keys:
            raise SourceError(f"{LATEST_MODEL} names {self._uri(path)} for {model}, where nothing lies: upload it")
        digest = digest_of([[key, *found[key]] for key in keys])
        folder = path.rpartition("/")[0] if is_file else path
        files = tuple(RemoteFile(key.removeprefix(f"{folder}/"), found[key][1]) for key in keys)
        offered = _Offered(digest, folder, files, entry=None, etags={key: found[key][0] for key in keys})
        return offered, entry.version(model, digest, is_file=is_file)

    def _find(self, offer: Offer) -> _Offered:
        offered = self._offered.get(offer.model)
        if offered is None or offered.digest != offer.digest:
            raise SourceError(f"{offer.model} {offer.version} is not the newest any more: the next look takes the one that is")
        return offered

    def _chunks(self, answer: GetObjectOutputTypeDef, key: str) -> Iterator[bytes]:
        """The body of an answer, as it comes. Raises SourceError when it comes too slowly, or ends too early."""
        body: Any = answer["Body"]
        stream = body._raw_stream  # botocore's read() waits until a whole chunk is there: a trickle would hold it for hours
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
                    if speed < self._least_speed:
                        raise SourceError(
                            f"S3 sends {speed:.0f} bytes/s of {self._uri(key)}, {self._least_speed:.0f} are the least: "
                            "look at the network"
                        )
                    began, received = time.monotonic(), 0
        except urllib3.exceptions.ReadTimeoutError as error:
            raise SourceError(f"S3 stopped sending {self._uri(key)}") from error
        except urllib3.exceptions.HTTPError as error:
            raise SourceError(f"the connection to S3 ended within {self._uri(key)}") from error
        finally:
            body.close()
        if missing > 0:  # urllib3 does not always notice
            raise SourceError(f"the connection to S3 ended within {self._uri(key)}")

    def _plainly(self, error: ClientError | BotoCoreError, key: str) -> SourceError:
        """What is wrong and what to do."""
        uri = self._uri(key)
        if isinstance(error, ClientError):
            code, status = code_of(error), error.response["ResponseMetadata"]["HTTPStatusCode"]
            if code in MEANINGS:
                return SourceError(f"S3 rejects {uri}: {MEANINGS[code]}")
            if status >= 500:
                return SourceError(f"S3 answers {status} ({code}) for {uri}: it is busy or broken")
            return SourceError(f"S3 rejects {uri}: {code}, {error.response['Error'].get('Message', 'without a reason')}")
        if isinstance(error, NO_CREDENTIALS):
            return SourceError(f"no credentials for {uri} ({error}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        if isinstance(error, UNREACHABLE):
            endpoint = self._client.meta.endpoint_url
            return SourceError(f"S3 cannot be reached at {endpoint} ({error}): check AWS_ENDPOINT_URL_S3 and the network")
        return SourceError(f"S3 cannot be asked for {uri}: {error}")

    def _key_of(self, path: str) -> str:
        return f"{self._prefix}/{path}" if self._prefix else path

    def _uri(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"


def connect() -> S3Client:
    """A client as AWS's own variables say."""
    return boto3.Session().client(  # the default session, which boto3.client() takes, keeps the credentials it found first
        "s3",
        config=Config(
            connect_timeout=5,
            read_timeout=15,
            retries={"mode": "standard", "total_max_attempts": 2},
            signature_version="s3v4",
            response_checksum_validation="when_required",  # the digests here are our own
        ),
    )


def code_of(error: ClientError) -> str:
    """S3's own code for what is wrong; empty where it gave none."""
    return str(error.response["Error"].get("Code", ""))


def _wrong(offered: _Offered, message: str) -> SourceError | RejectedError:
    """In the short form nobody said what should lie there: the next look takes what does."""
    return RejectedError(message) if offered.entry else SourceError(message)
