"""Publishing a version to S3: its files first, then `latest_model.yaml`, which several publishers may be changing at once."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import BaseModel, ConfigDict, ValidationError

from bunriwiki.artifacts.manifest import DamagedArtifactError, digest
from bunriwiki.model_store.names import to_store
from model_sync.errors import PublishError, RejectedError, SourceError
from model_sync.importing.compilers.readable import require_readable
from model_sync.importing.published import Compiled, find_artifact
from model_sync.signatures import SignedFile, sign
from model_sync.sources.latest_model import LATEST_MODEL, MAX_BYTES, FullEntry, LatestModel, ListedFile, with_entry
from model_sync.sources.local import SIGNATURE
from model_sync.sources.s3 import MEANINGS, MISSING, NO_CREDENTIALS, UNREACHABLE, code_of

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

TRIES = 30  # to change latest_model.yaml while others do
FASTER = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
NEEDED = "the credentials do not allow it: they need s3:GetObject, s3:PutObject and s3:ListBucket there"
TRANSFER = TransferConfig(multipart_threshold=16 * 2**20, multipart_chunksize=16 * 2**20, max_concurrency=4)

Progress = Callable[[Literal["read", "upload"], int, int], None]
"""Is told bytes that are done, and all that there are. From several threads, one at a time."""


class Published(BaseModel):
    """A version that `latest_model.yaml` names. `announced` is false where it did so before, in the same words.

    Files that were there already, from a publication that was cut off, are `present`; the others were `uploaded`.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    version: str
    uri: str
    digest: str
    bytes: int
    uploaded: tuple[str, ...]
    present: tuple[str, ...]
    announced: bool
    signed: bool


class Publisher:
    """Publishes below `uri` (`s3://bucket/prefix`), reached with AWS's own variables.

    The server has to know conditional writes (`If-Match`, `If-None-Match`), as S3 and SeaweedFS do: one that ignores them would
    let the slower of two publishers undo the faster one's entry. Raises PublishError for a `uri` that is none.
    """

    def __init__(self, uri: str, client: S3Client | None = None) -> None:
        scheme, _, place = uri.partition("://")
        self._bucket, _, prefix = place.partition("/")
        self._prefix = prefix.strip("/")
        if scheme != "s3" or not self._bucket:
            raise PublishError("settings", f"{uri!r} should look like s3://bucket/prefix: set BUNRIWIKI_S3_URI.")
        self._client = client or connect()

    def publish(
        self,
        model: str,
        path: Path,
        version: str,
        *,
        key: Ed25519PrivateKey | None = None,
        progress: Progress = lambda *_: None,
    ) -> Published:
        """Publish the file or folder at `path` as `version` of `model`; hidden files are left out. With `key` it is signed.

        One that was cut off goes on with the files that are missing. Where the same version is published already, nothing
        happens. Nothing names the version before all of its files are there. Raises PublishError.
        """
        require_name(model, version)
        files = _files(path)
        try:
            _require_artifact(model, path, files)
            entry = self._describe(model, version, files, key, progress)
        except (RejectedError, DamagedArtifactError) as error:
            raise PublishError("rejected", f"{path} is no version of {model}: {error}.") from error
        except OSError as error:
            raise PublishError("failed", f"{path} cannot be read: {error}.") from error
        present = self._present(entry)
        uploaded = self._upload(entry, files, present, progress)
        if uploaded and len(self._present(entry)) != len(entry.files):
            raise PublishError("rejected", f"Files of {self._uri(entry.path)} went while it was published: publish it again.")
        return Published(
            model=model,
            version=version,
            uri=self._uri(entry.path),
            digest=entry.digest,
            bytes=sum(file.size for file in entry.files),
            uploaded=tuple(uploaded),
            present=tuple(sorted(present)),
            announced=self._announce(model, entry),
            signed=entry.signature is not None,
        )

    def _describe(
        self, model: str, version: str, files: Mapping[str, Path], key: Ed25519PrivateKey | None, progress: Progress
    ) -> FullEntry:
        total = sum(path.stat().st_size for path in files.values())
        listed, done = [], 0
        for name, path in files.items():
            progress("read", done, total)
            size = path.stat().st_size
            listed.append(ListedFile(path=name, size=size, sha256=digest(path)))
            done += size
        progress("read", done, total)
        try:
            entry = FullEntry(version=version, path=f"{model}/{version}", files=tuple(listed))
        except ValidationError as error:
            raise PublishError("rejected", f"It cannot be listed in {LATEST_MODEL}: {error.errors()[0]['msg']}.") from error
        if key is None:
            return entry
        covered = [SignedFile(file.path, file.size, file.sha256) for file in entry.files]
        return entry.model_copy(update={"signature": sign(key, model, version, covered)})

    def _present(self, entry: FullEntry) -> set[str]:
        """Which files of `entry` lie there already. Raises PublishError where others do under its name."""
        ours = {file.path: file for file in entry.files}
        announced = self._announced(entry)
        folder = self._key(entry.path) + "/"
        present = set()
        with self._plainly(entry.path):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=folder):
                for one in page.get("Contents", []):
                    name = one["Key"].removeprefix(folder)
                    if not name or name.endswith("/"):  # a folder that some tools make visible
                        continue
                    head = self._client.head_object(Bucket=self._bucket, Key=one["Key"])
                    sha256 = head["Metadata"].get("sha256") or announced.get(name)
                    file = ours.get(name)
                    if file is None or file.size != head["ContentLength"] or file.sha256 != sha256:
                        raise PublishError(
                            "rejected",
                            f"{self._uri(entry.path)} exists already, with another {name}: a version never changes. "
                            "Choose a new name for it.",
                        )
                    present.add(name)
        return present

    def _announced(self, entry: FullEntry) -> dict[str, str]:
        """The digests of files that were uploaded with another tool, as `latest_model.yaml` states them."""
        text, _ = self._read_latest()
        named = _parse(text).entries.get(entry.path.partition("/")[0])
        if not isinstance(named, FullEntry) or named.path != entry.path:
            return {}
        return {file.path: file.sha256 for file in named.files}

    def _upload(self, entry: FullEntry, files: Mapping[str, Path], present: set[str], progress: Progress) -> list[str]:
        missing = [file for file in entry.files if file.path not in present]
        total = sum(file.size for file in missing)
        counting = threading.Lock()
        done = 0

        def sent(number: int) -> None:
            nonlocal done
            with counting:
                done += number
                progress("upload", done, total)

        for file in missing:
            with self._plainly(f"{entry.path}/{file.path}"):
                self._client.upload_file(
                    Filename=str(files[file.path]),
                    Bucket=self._bucket,
                    Key=self._key(f"{entry.path}/{file.path}"),
                    ExtraArgs={"Metadata": {"sha256": file.sha256}},
                    Callback=sent,
                    Config=TRANSFER,
                )
        return [file.path for file in missing]

    def _announce(self, model: str, entry: FullEntry) -> bool:
        """Have `latest_model.yaml` name `entry`, whoever else changes it meanwhile; whether it did not before."""
        for _ in range(TRIES):
            text, etag = self._read_latest()
            named = _parse(text).entries.get(model)
            if isinstance(named, FullEntry) and (named.version, named.digest) == (entry.version, entry.digest):
                if entry.signature in {None, named.signature}:
                    return False
                entry = named.model_copy(update={"signature": entry.signature})
            try:
                new = with_entry(text, model, entry)
            except SourceError as error:
                raise _broken(error) from error
            if self._replace_latest(new, etag):
                return True
            time.sleep(random.uniform(0.02, 0.3))  # noqa: S311 (so that two do not meet again and again)
        raise PublishError("failed", f"Others change {self._uri(LATEST_MODEL)} all the time: publish again.")

    def _read_latest(self) -> tuple[bytes, str | None]:
        """The file and its ETag; an empty one and None where there is none."""
        with self._plainly(LATEST_MODEL):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._key(LATEST_MODEL))
            except ClientError as error:
                if code_of(error) in MISSING:
                    return b"", None
                raise
            return answer["Body"].read(MAX_BYTES + 1), answer["ETag"]

    def _replace_latest(self, text: bytes, etag: str | None) -> bool:
        """Write the file, unless it is no longer the one with `etag`; whether it was."""
        condition: dict[str, Any] = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        with self._plainly(LATEST_MODEL):
            try:
                self._client.put_object(Bucket=self._bucket, Key=self._key(LATEST_MODEL), Body=text, **condition)
            except ClientError as error:
                if code_of(error) in FASTER:
                    return False
                raise
        return True

    @contextmanager
    def _plainly(self, path: str) -> Iterator[None]:
        """S3's errors as PublishError: what is wrong and what to do."""
        uri = self._uri(self._key(path), whole=True)
        try:
            yield
        except (ClientError, S3UploadFailedError) as error:
            raise _rejection(error if isinstance(error, ClientError) else error.__context__, uri) from error
        except NO_CREDENTIALS as error:
            sentence = f"No credentials for {uri} ({error}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            raise PublishError("settings", sentence) from error
        except UNREACHABLE as error:
            sentence = f"S3 cannot be reached for {uri} ({error}): check AWS_ENDPOINT_URL_S3 and the network."
            raise PublishError("unreachable", sentence) from error
        except BotoCoreError as error:
            raise PublishError("settings", f"S3 cannot be asked for {uri}: {error}.") from error
        except OSError as error:
            raise PublishError("failed", f"A file cannot be read: {error}.") from error

    def _key(self, path: str) -> str:
        return f"{self._prefix}/{path}" if self._prefix else path

    def _uri(self, path: str, *, whole: bool = False) -> str:
        return f"s3://{self._bucket}/{path if whole else self._key(path)}"


def connect() -> S3Client:
    """A client as AWS's own variables say."""
    return boto3.Session().client(
        "s3",
        config=Config(
            connect_timeout=5,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 4},
            signature_version="s3v4",
            request_checksum_calculation="when_required",  # not every server knows the newer ones; the digests here are our own
            response_checksum_validation="when_required",
        ),
    )


def read_key(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 key in a PEM file, to sign with. Raises PublishError."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:  # TypeError: it has a password
        raise PublishError("settings", f"{path} is no PEM file with a private key: {error}.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise PublishError("settings", f"{path} has a private key of another kind than Ed25519.")
    return key


def require_name(model: str, version: str) -> None:
    """Hold `version` to what the store and S3's paths take. Raises PublishError."""
    try:
        to_store(version)
    except ValueError as error:
        raise PublishError("rejected", f"The version cannot be called so: {error}.") from error
    if "/" in version or version in {".", ".."} or not version.isprintable() or version != version.strip():
        raise PublishError(
            "rejected", f"{version!r} is no name for a version of {model}: no slashes, please, nor blanks around it."
        )


def _files(path: Path) -> dict[str, Path]:
    """The files to publish, by their path in the version."""
    if path.is_file():
        return {path.name: path}
    if not path.is_dir():
        raise PublishError("failed", f"{path} does not exist.")
    found = {
        file.relative_to(path).as_posix(): file
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and not any(part.startswith(".") or part == "__pycache__" for part in file.relative_to(path).parts)
        and file != path / SIGNATURE  # of a folder that is followed: latest_model.yaml has its own place for it
    }
    if not found:
        raise PublishError("rejected", f"There is no file in {path}.")
    return found


def _require_artifact(model: str, path: Path, files: Mapping[str, Path]) -> None:
    """What is published is one artifact for `model`, and readable. Raises RejectedError, DamagedArtifactError and OSError."""
    with tempfile.TemporaryDirectory() as folder:
        view = Path(folder)  # of exactly what will be there
        for name, file in files.items():
            (view / name).parent.mkdir(parents=True, exist_ok=True)
            (view / name).symlink_to(file.resolve())
        artifact = find_artifact(model, view)
        # A manifest's files have to lie in its folder, which links do not.
        require_readable(model, Compiled(path) if isinstance(artifact, Compiled) else artifact)


def _parse(text: bytes) -> LatestModel:
    try:
        return LatestModel.parse(text or b"{}")
    except SourceError as error:
        raise _broken(error) from error


def _broken(why: object) -> PublishError:
    return PublishError("rejected", f"The {LATEST_MODEL} that is there cannot be understood: mend it first ({why}).")


def _rejection(error: BaseException | None, uri: str) -> PublishError:
    """What an answer of S3 means. What it says of an upload is the error's context."""
    if not isinstance(error, ClientError):
        return PublishError("failed", f"S3 did not take {uri}: {error}.")
    code, status = code_of(error), error.response["ResponseMetadata"]["HTTPStatusCode"]
    meanings = {**MEANINGS, "AccessDenied": NEEDED, "403": NEEDED}
    if code in meanings:
        return PublishError("settings", f"S3 rejects {uri}: {meanings[code]}.")
    if status >= 500:
        return PublishError("unreachable", f"S3 answers {status} ({code}) for {uri}: it is busy or broken.")
    return PublishError("failed", f"S3 rejects {uri}: {code}, {error.response['Error'].get('Message', 'without a reason')}.")
