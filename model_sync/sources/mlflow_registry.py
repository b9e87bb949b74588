"""MLflow's model registry: an alias, or else a stage, marks the version of each model to serve."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository

from model_sync.errors import RejectedError, SourceError
from model_sync.sources import MLFLOW_SIGNATURE_TAG, Offer, RemoteFile
from model_sync.sources.artifact_locations import DEFAULT, ArtifactLocations
from model_sync.sources.digests import digest_of

ALIASES = ("champion", "production")
STAGES = ("Production", "Staging")  # deprecated, but still in use
# With MLflow's own defaults a call takes minutes to fail when the server is down.
HTTP_DEFAULTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


class MlflowSource:
    """The registry of the server at `tracking_uri`; `names` maps each model to its registered model.

    `artifacts` is the allow-list of locations that files may be fetched from (see `ArtifactLocations`).

    `newest` takes one request, or two if an alias is set. MLflow's own variables apply (credentials, certificates). Its retries
    and timeouts are reduced in this process's environment, unless they are set there.
    """

    def __init__(self, tracking_uri: str, names: Mapping[str, str], artifacts: str = DEFAULT) -> None:
        for name, value in HTTP_DEFAULTS.items():
            os.environ.setdefault(name, value)
        self._tracking_uri = tracking_uri
        self._names = dict(names)
        self._locations = ArtifactLocations(artifacts, tracking_uri)
        self._client = MlflowClient(tracking_uri=tracking_uri)
        self._stores: dict[str, tuple[str, Any]] = {}  # by model: an offer's digest, and its artifact store

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
            raise self._source_error(error, f"the registered model {name!r}") from error
        return None if version is None else _offer(model, version)

    def version(self, model: str, number: str) -> Offer:
        """The version with this number, with or without an alias. Raises SourceError."""
        name = self._names[model]
        try:
            return _offer(model, self._client.get_model_version(name, number))
        except MlflowException as error:
            raise self._source_error(error, f"the version {number} of the registered model {name!r}") from error

    def set_signature(self, offer: Offer, signature: str) -> None:
        """Tag the version with `signature`. Raises SourceError."""
        try:
            self._client.set_model_version_tag(self._names[offer.model], offer.version, MLFLOW_SIGNATURE_TAG, signature)
        except MlflowException as error:
            raise self._source_error(error, offer.uri) from error

    def files(self, offer: Offer) -> tuple[RemoteFile, ...]:
        """The files with their sizes; MLflow has no digests.

        Raises SourceError, and RejectedError if there is no file or the location is not in the allow-list.
        """
        try:
            files = tuple(_walk(self._store(offer)))
        except RejectedError:
            raise
        except Exception as error:  # every kind of artifact store has its own errors
            raise self._source_error(error, offer.uri) from error
        if not files:
            raise RejectedError(f"{offer.uri} has no files: log a model to it")
        return files

    def download(
        self,
        offer: Offer,
        file: RemoteFile,
        part: Path,
        stop: threading.Event,  # noqa: ARG002 (MLflow's client cannot be interrupted)
    ) -> None:
        """Download the whole file and replace `part`: MLflow can neither resume nor interrupt a download within a file.

        Raises SourceError and OSError.
        """
        download = part.with_name(f"{part.name}.mlflow")
        try:
            # download_artifacts() lets the server choose the local name, and sends every request twice.
            self._store(offer)._download_file(file.path, str(download))
            download.replace(part)
        except RejectedError:
            raise
        except requests.RequestException as error:  # a subclass of OSError, but not an error of this disk
            raise self._source_error(error, f"{file.path} of {offer.uri}") from error
        except OSError:
            raise
        except Exception as error:  # every kind of artifact store has its own errors
            raise self._source_error(error, f"{file.path} of {offer.uri}") from error
        finally:
            download.unlink(missing_ok=True)

    def _version(self, name: str) -> Any:
        registered = self._client.get_registered_model(name)
        for alias in ALIASES:
            if alias in registered.aliases:
                return self._client.get_model_version(name, registered.aliases[alias])
        newest = {version.current_stage: version for version in registered.latest_versions}  # one per stage
        return next((newest[stage] for stage in STAGES if stage in newest), None)

    def _store(self, offer: Offer) -> Any:
        digest, store = self._stores.get(offer.model, ("", None))
        if digest != offer.digest:
            stated = self._client.get_model_version_download_uri(self._names[offer.model], offer.version)
            uri = self._resolved(stated)
            self._locations.require(uri)
            store = get_artifact_repository(uri, tracking_uri=self._tracking_uri)
            self._stores[offer.model] = (offer.digest, store)
        return store

    def _resolved(self, uri: str) -> str:
        """The location that `uri` stands for, if it names a run or a logged model."""
        if model := re.fullmatch(r"models:/(m-[0-9a-zA-Z]+)", uri):
            return str(self._client.get_logged_model(model[1]).artifact_location)
        if RunsArtifactRepository.is_runs_uri(uri):
            return str(RunsArtifactRepository.get_underlying_uri(uri, self._tracking_uri))
        return uri

    def _source_error(self, error: Exception, what: str) -> SourceError:
        """The error of a request for `what`, without the password that the server's address may contain."""
        place = urlsplit(self._tracking_uri).netloc
        host = place.rpartition("@")[2]
        server = self._tracking_uri.replace(place, host).rstrip("/")
        # MLflow raises its own exception while it handles the more specific one.
        cause = error if isinstance(error, requests.RequestException) else error.__context__
        if isinstance(cause, requests.ConnectionError | requests.Timeout):
            return SourceError(
                f"MLflow at {server} cannot be reached: start it, or correct its address ({type(cause).__name__})"
            )
        message = str(error).replace(place, host)
        match _status(error):
            case 401:
                return SourceError(
                    f"MLflow at {server} requires credentials: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
                    "or MLFLOW_TRACKING_TOKEN"
                )
            case 403:
                return SourceError(f"MLflow at {server} rejects {what}: grant access to these credentials ({message})")
            case 404:
                return SourceError(f"MLflow at {server} does not have {what}: register it, or correct its name")
            case _:
                return SourceError(f"MLflow at {server} cannot be queried for {what}: {message}")


def _offer(model: str, version: Any) -> Offer:
    """A version of a registered model as an offer for `model`. Its tags do not change the digest."""
    identity = [version.name, version.version, version.run_id, version.model_id, version.source, version.creation_timestamp]
    uri = f"models:/{version.name}/{version.version}"
    return Offer(model, str(version.version), digest_of(identity), uri, version.tags.get(MLFLOW_SIGNATURE_TAG))


def _walk(store: Any, folder: str | None = None) -> Iterator[RemoteFile]:
    for entry in store.list_artifacts(folder):
        if entry.is_dir:
            yield from _walk(store, entry.path)
        else:
            yield RemoteFile(entry.path, entry.file_size or 0)  # MLflow sends no size for an empty file


def _status(error: Exception) -> int | None:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return int(error.response.status_code)
    return int(error.get_http_status_code()) if isinstance(error, MlflowException) else None
