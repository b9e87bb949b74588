"""MLflow's model registry: an alias, or a stage where there is no alias, names the version of each model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from model_sync.errors import RejectedError, SourceError
from model_sync.signatures import MLFLOW_TAG
from model_sync.sources import Offer, RemoteFile
from model_sync.sources.latest_model import digest_of

ALIASES = ("champion", "production")
STAGES = ("Production", "Staging")  # deprecated, and still in use
# MLflow's own defaults hold a caller for minutes when the server is down.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


class MlflowSource:
    """The registry of the server at `tracking_uri`; `names` has the registered model of each model.

    A look costs one request, or two where an alias is set. MLflow's own variables hold (credentials, certificates); its retries
    and timeouts are set to few and short ones in this process's environment, unless they are set there.
    """

    def __init__(self, tracking_uri: str, names: Mapping[str, str]) -> None:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        self._tracking_uri = tracking_uri
        self._names = dict(names)
        self._client = MlflowClient(tracking_uri=tracking_uri)
        self._stores: dict[str, tuple[str, Any]] = {}  # by model: the digest of an offer, and where its files are

    def newest(self, model: str) -> Offer | None:
        """The version with the alias `champion`, else `production`; else the newest in `Production`, else in `Staging`.

        Raises SourceError.
        """
        if model not in self._names:
            return None
        name = self._names[model]
        try:
            version = self._version(name)
        except MlflowException as error:
            raise self._plainly(error, f"the registered model {name!r}") from error
        return None if version is None else _offer(model, version)

    def version(self, model: str, number: str) -> Offer:
        """A version by its number, whether an alias names it or not. Raises SourceError."""
        name = self._names[model]
        try:
            return _offer(model, self._client.get_model_version(name, number))
        except MlflowException as error:
            raise self._plainly(error, f"the version {number} of the registered model {name!r}") from error

    def set_signature(self, offer: Offer, signature: str) -> None:
        """Tag the version with `signature`. Raises SourceError."""
        try:
            self._client.set_model_version_tag(self._names[offer.model], offer.version, MLFLOW_TAG, signature)
        except MlflowException as error:
            raise self._plainly(error, offer.uri) from error

    def files(self, offer: Offer) -> tuple[RemoteFile, ...]:
        """The files with their sizes; MLflow knows no digests. Raises SourceError, and RejectedError where there is no file."""
        try:
            files = tuple(_walk(self._store(offer)))
        except Exception as error:  # each kind of artifact store has errors of its own
            raise self._plainly(error, offer.uri) from error
        if not files:
            raise RejectedError(f"{offer.uri} has no files: log a model to it")
        return files

    def download(self, offer: Offer, file: RemoteFile, part: Path) -> None:
        """Fetch the whole file and put it in the place of `part`: MLflow cannot go on within a file, only file by file.

        Raises SourceError and OSError.
        """
        beside = part.with_name(f"{part.name}.mlflow")
        try:
            # download_artifacts() would choose the local name from what the server says, and ask for it twice.
            self._store(offer)._download_file(file.path, str(beside))
            beside.replace(part)
        except requests.RequestException as error:  # an OSError too, but not of this disk
            raise self._plainly(error, f"{file.path} of {offer.uri}") from error
        except OSError:
            raise
        except Exception as error:  # each kind of artifact store has errors of its own
            raise self._plainly(error, f"{file.path} of {offer.uri}") from error
        finally:
            beside.unlink(missing_ok=True)

    def _version(self, name: str) -> Any:
        registered = self._client.get_registered_model(name)
        for alias in ALIASES:
            if alias in registered.aliases:
                return self._client.get_model_version(name, registered.aliases[alias])
        newest = {version.current_stage: version for version in registered.latest_versions}  # of each stage one
        return next((newest[stage] for stage in STAGES if stage in newest), None)

    def _store(self, offer: Offer) -> Any:
        digest, store = self._stores.get(offer.model, ("", None))
        if digest != offer.digest:
            uri = self._client.get_model_version_download_uri(self._names[offer.model], offer.version)
            store = get_artifact_repository(uri, tracking_uri=self._tracking_uri)
            self._stores[offer.model] = (offer.digest, store)
        return store

    def _plainly(self, error: Exception, what: str) -> SourceError:
        """What is wrong and what to do, without a password that the server's address may have."""
        place = urlsplit(self._tracking_uri).netloc
        host = place.rpartition("@")[2]
        server = self._tracking_uri.replace(place, host).rstrip("/")
        # MLflow raises its own exception while it handles the one that says more.
        cause = error if isinstance(error, requests.RequestException) else error.__context__
        if isinstance(cause, requests.ConnectionError | requests.Timeout):
            return SourceError(
                f"MLflow at {server} cannot be reached: start it, or correct its address ({type(cause).__name__})"
            )
        said = str(error).replace(place, host)
        match _status(error):
            case 401:
                return SourceError(
                    f"MLflow at {server} wants credentials: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
                    "or MLFLOW_TRACKING_TOKEN"
                )
            case 403:
                return SourceError(f"MLflow at {server} rejects {what}: allow it to these credentials ({said})")
            case 404:
                return SourceError(f"MLflow at {server} does not have {what}: register it, or correct its name")
            case _:
                return SourceError(f"MLflow at {server} cannot be asked for {what}: {said}")


def _offer(model: str, version: Any) -> Offer:
    """What a version of a registered model is to `model`. Its tags do not make it another one."""
    identity = [version.name, version.version, version.run_id, version.model_id, version.source, version.creation_timestamp]
    uri = f"models:/{version.name}/{version.version}"
    return Offer(model, str(version.version), digest_of(identity), uri, version.tags.get(MLFLOW_TAG))


def _walk(store: Any, folder: str | None = None) -> Iterator[RemoteFile]:
    for one in store.list_artifacts(folder):
        if one.is_dir:
            yield from _walk(store, one.path)
        else:
            yield RemoteFile(one.path, one.file_size or 0)  # an empty file's size is not sent


def _status(error: Exception) -> int | None:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return int(error.response.status_code)
    return int(error.get_http_status_code()) if isinstance(error, MlflowException) else None
