"""The change of `latest_model.yaml`, which several publishers may make at once."""

from __future__ import annotations

import random
import time

from model_sync.errors import PublishError, SourceError
from model_sync.publishing.bucket import Bucket
from model_sync.sources.latest_model import LATEST_MODEL, MAX_BYTES, FullEntry, LatestModel, ShortEntry, with_entry

MAX_TRIES = 30  # to change the file while others change it


class LatestModelFile:
    """`latest_model.yaml` in `bucket`. Every method raises PublishError, also if the file is invalid."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def entry(self, model: str) -> FullEntry | ShortEntry | None:
        """The entry of `model`; None if there is no valid entry."""
        text, _ = self._read()
        return _parse(text).entries.get(model)

    def announce(self, model: str, entry: FullEntry) -> bool:
        """Set the entry of `model` to `entry`; whether that changed the file. Concurrent changes are kept.

        An entry for the same version with the same files is changed only to add or replace its signature.
        """
        for _ in range(MAX_TRIES):
            text, etag = self._read()
            current = _parse(text).entries.get(model)
            if isinstance(current, FullEntry) and (current.version, current.digest) == (entry.version, entry.digest):
                if entry.signature in {None, current.signature}:
                    return False
                entry = current.model_copy(update={"signature": entry.signature})
            try:
                changed = with_entry(text, model, entry)
            except SourceError as error:
                raise _invalid(error) from error
            if self._bucket.replace(LATEST_MODEL, changed, etag):
                return True
            time.sleep(random.uniform(0.02, 0.3))  # noqa: S311 (so that concurrent publishers do not collide again)
        raise PublishError("failed", f"Other publishers keep changing {self._bucket.uri(LATEST_MODEL)}: publish again.")

    def _read(self) -> tuple[bytes, str | None]:
        return self._bucket.read(LATEST_MODEL, MAX_BYTES + 1)


def _parse(text: bytes) -> LatestModel:
    try:
        return LatestModel.parse(text or b"{}")
    except SourceError as error:
        raise _invalid(error) from error


def _invalid(error: SourceError) -> PublishError:
    return PublishError("rejected", f"The {LATEST_MODEL} in the bucket is invalid: repair it first ({error}).")
