"""Publishing a version: the order of the steps, and what they guarantee."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, ValidationError

from bunriwiki.artifacts.manifest import DamagedArtifactError
from model_sync.envelope import DEFAULT_DAYS, Validity
from model_sync.errors import PublishError, RejectedError, SignatureError
from model_sync.publishing import Progress
from model_sync.publishing.bucket import Bucket
from model_sync.publishing.files import find_files, list_files, require_artifact
from model_sync.publishing.history import find_history, upload_history
from model_sync.publishing.latest_model_file import LatestModelFile
from model_sync.publishing.names import require_name
from model_sync.signatures import Signatures, SignedFile, sign
from model_sync.sources import Offer
from model_sync.sources.latest_model import LATEST_MODEL, FullEntry

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


class Published(BaseModel):
    """A version that `latest_model.yaml` names. `announced` is false if the file did not have to change.

    The files in `present` were in the bucket already, from an interrupted attempt; those in `uploaded` were not. `history` has
    the files of the training history.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    version: str
    uri: str
    digest: str
    size_bytes: int
    uploaded: tuple[str, ...]
    present: tuple[str, ...]
    history: tuple[str, ...]
    announced: bool
    signed: bool


class Publisher:
    """Publishes below `uri` (`s3://bucket/prefix`); AWS's own variables configure the client.

    The server has to support conditional writes (`If-Match`, `If-None-Match`), as S3 and SeaweedFS do. On a server that ignores
    them, concurrent publishers overwrite each other's entries. Raises PublishError for an invalid `uri`.
    """

    def __init__(self, uri: str, client: S3Client | None = None) -> None:
        self._bucket = Bucket(uri, client)
        self._latest_model = LatestModelFile(self._bucket)

    def publish(
        self,
        model: str,
        path: Path,
        version: str,
        *,
        key: Ed25519PrivateKey | None = None,
        days: float = DEFAULT_DAYS,
        progress: Progress = lambda *_: None,
    ) -> Published:
        """Publish the file or folder at `path` as `version` of `model`, without hidden files; signed with `key`, if given,
        for `days`.

        An interrupted attempt is resumed with the files that are missing. Publishing the same version again changes nothing.
        `latest_model.yaml` names the version only after all of its files are in the bucket, and its training history
        (`find_history`), which is uploaded beside the version. Raises PublishError.
        """
        require_name(model, version)
        history = find_history(path)
        files = {name: file for name, file in find_files(path).items() if file not in history.values()}
        try:
            require_artifact(model, path, files)
            entry = _make_entry(model, version, files, progress)
        except (RejectedError, DamagedArtifactError) as error:
            raise PublishError("rejected", f"{path} is not a version of {model}: {error}.") from error
        except OSError as error:
            raise PublishError("failed", f"{path} cannot be read: {error}.") from error
        if key is not None:
            entry = entry.model_copy(update={"signature": self._signature(model, entry, key, days)})
        present = self._find_present(model, entry)
        uploaded = self._upload_missing(entry, files, present, progress)
        if uploaded and len(self._find_present(model, entry)) != len(entry.files):
            raise PublishError(
                "rejected", f"Files of {self._bucket.uri(entry.path)} were deleted during the upload: publish it again."
            )
        upload_history(self._bucket, model, version, history)
        return Published(
            model=model,
            version=version,
            uri=self._bucket.uri(entry.path),
            digest=entry.digest,
            size_bytes=sum(file.size for file in entry.files),
            uploaded=tuple(uploaded),
            present=tuple(sorted(present)),
            history=tuple(history),
            announced=self._latest_model.announce(model, entry),
            signed=entry.signature is not None,
        )

    def _find_present(self, model: str, entry: FullEntry) -> set[str]:
        """The files of `entry` that are in the bucket. Raises PublishError if its folder has any other file."""
        expected = {file.path: file for file in entry.files}
        announced = self._announced_digests(model, entry)
        present = set()
        for stored in self._bucket.list_files(entry.path):
            file, sha256 = expected.get(stored.path), stored.sha256 or announced.get(stored.path)
            if file is None or (file.size, file.sha256) != (stored.size, sha256):
                raise PublishError(
                    "rejected",
                    f"{self._bucket.uri(entry.path)} exists already, with a different {stored.path}: a version never changes. "
                    "Choose a new name for it.",
                )
            present.add(stored.path)
        return present

    def _signature(self, model: str, entry: FullEntry, key: Ed25519PrivateKey, days: float) -> str:
        """The signature of `entry`: the announced one if it is by this key and of this version, so that nothing changes."""
        covered = [SignedFile(file.path, file.size, file.sha256) for file in entry.files]
        current = self._latest_model.entry(model)
        if isinstance(current, FullEntry) and current.signature and current.version == entry.version:
            announced = Offer(model, entry.version, entry.digest, "", current.signature)
            signatures = Signatures([key.public_key()])
            try:
                signatures.require(announced)
                signatures.verify(announced, covered)
            except SignatureError:
                pass
            else:
                return current.signature
        return sign(key, model, entry.version, covered, Validity.from_now(days))

    def _announced_digests(self, model: str, entry: FullEntry) -> dict[str, str]:
        """The digests that `latest_model.yaml` states for the same version: objects of other tools lack the metadata."""
        current = self._latest_model.entry(model)
        if not isinstance(current, FullEntry) or current.path != entry.path:
            return {}
        return {file.path: file.sha256 for file in current.files}

    def _upload_missing(self, entry: FullEntry, files: Mapping[str, Path], present: set[str], progress: Progress) -> list[str]:
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
            self._bucket.upload(files[file.path], f"{entry.path}/{file.path}", file.sha256, sent)
        return [file.path for file in missing]


def _make_entry(model: str, version: str, files: Mapping[str, Path], progress: Progress) -> FullEntry:
    listed = list_files(files, progress)
    try:
        return FullEntry(version=version, path=f"{model}/{version}", files=listed)
    except ValidationError as error:
        raise PublishError("rejected", f"It cannot be listed in {LATEST_MODEL}: {error.errors()[0]['msg']}.") from error
