from __future__ import annotations

import os
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import mlflow.pyfunc
import pytest
import requests
from mlflow import MlflowClient

from bunriwiki.testing.mlflow_server import MlflowServer
from bunriwiki.testing.ports import free_port
from model_sync.errors import RejectedError, SourceError
from model_sync.sources import Offer, RemoteFile
from model_sync.sources.mlflow_registry import MlflowSource

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


class Registry:
    """A separate registered model on the real server."""

    def __init__(self, server: MlflowServer, folder: Path) -> None:
        self.server = server
        self.name = f"sentiment-{uuid.uuid4().hex}"
        self.client: Any = MlflowClient(tracking_uri=server.url)
        self.client.create_registered_model(self.name)
        self.run = self.client.create_run("0")
        self._folder = folder

    def register(self, files: dict[str, bytes], *, source: str | None = None) -> str:
        """The number of a new version with `files`."""
        folder = self._folder / uuid.uuid4().hex
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
            self.client.log_artifact(self.run.info.run_id, str(folder / path), str(Path(folder.name) / Path(path).parent))
        uri = source or f"{self.run.info.artifact_uri}/{folder.name}"
        return str(self.client.create_model_version(self.name, uri, self.run.info.run_id).version)

    def alias(self, name: str, version: str) -> None:
        self.client.set_registered_model_alias(self.name, name, version)

    def stage(self, name: str, version: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # stages are deprecated
            self.client.transition_model_version_stage(self.name, version, name)

    def source(self) -> MlflowSource:
        return MlflowSource(self.server.url, {"sentiment": self.name})


@pytest.fixture
def registry(server: MlflowServer, tmp_path: Path) -> Registry:
    return Registry(server, tmp_path / "published")


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs of all requests."""
    urls: list[str] = []
    send = requests.Session.send

    def recording(session: requests.Session, request: requests.PreparedRequest, **more: Any) -> requests.Response:
        urls.append(str(request.url))
        return send(session, request, **more)

    monkeypatch.setattr(requests.Session, "send", recording)
    return urls


class Stored:
    """Replaces MLflow's client: every version is at `location`."""

    def __init__(self, location: str) -> None:
        self.location = location

    def get_model_version_download_uri(self, name: str, version: str) -> str:
        return self.location

    def get_logged_model(self, model: str) -> Any:
        return SimpleNamespace(artifact_location="file:///etc")


@pytest.mark.parametrize("indirect", [False, True])
def test_a_version_whose_artifacts_are_files_of_this_machine_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, indirect: bool
) -> None:
    (tmp_path / "credentials").write_text("secret")
    source = MlflowSource("http://127.0.0.1:1", {"sentiment": "m"})
    monkeypatch.setattr(source, "_client", Stored("models:/m-1" if indirect else f"file://{tmp_path}"))
    offer = Offer("sentiment", "1", "d", "models:/m/1")
    with pytest.raises(RejectedError, match="BUNRIWIKI_MLFLOW_ARTIFACTS"):
        source.files(offer)
    with pytest.raises(RejectedError):
        source.download(offer, RemoteFile("credentials", 6), tmp_path / "part", threading.Event())
    assert not (tmp_path / "part").exists()


def test_a_folder_that_is_allowed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").write_text("weights")
    source = MlflowSource("http://127.0.0.1:1", {"sentiment": "m"}, f"file://{tmp_path}")
    monkeypatch.setattr(source, "_client", Stored(f"file://{tmp_path}"))
    assert source.files(Offer("sentiment", "1", "d", "models:/m/1")) == (RemoteFile("model", 7),)


def newest(source: MlflowSource) -> Offer:
    offer = source.newest("sentiment")
    assert offer
    return offer


def test_aliases_come_first_and_then_stages(registry: Registry) -> None:
    one, two, three, four, five = (registry.register({"MLmodel": b"x"}) for _ in range(5))
    source = registry.source()
    assert source.newest("sentiment") is None
    for assign, name, version in (
        (registry.stage, "Staging", one),
        (registry.stage, "Production", two),
        (registry.stage, "Production", three),
        (registry.alias, "production", four),
        (registry.alias, "champion", five),
        (registry.alias, "champion", one),
    ):
        assign(name, version)
        offer = newest(source)
        assert (offer.model, offer.version) == ("sentiment", version)
        assert offer.uri == f"models:/{registry.name}/{version}"
    assert source.newest("yolo") is None


def test_a_sync_takes_two_requests(registry: Registry, requested: list[str]) -> None:
    registry.alias("champion", registry.register({"MLmodel": b"x"}))
    source = registry.source()
    requested.clear()
    offer = newest(source)
    assert len(requested) == 2
    assert newest(source) == offer


def test_another_version_with_the_same_files_is_another_offer(registry: Registry) -> None:
    one, two = (registry.register({}, source=registry.run.info.artifact_uri) for _ in range(2))
    source = registry.source()
    registry.alias("champion", one)
    first = newest(source)
    registry.alias("champion", two)
    assert newest(source).digest != first.digest


@pytest.mark.parametrize("scheme", ["mlflow-artifacts", "runs"])
def test_files_are_listed_and_downloaded(registry: Registry, tmp_path: Path, scheme: str) -> None:
    files = {"MLmodel": b"flavors", "data/deeper/weights.bin": bytes(range(256)) * 100, "empty": b""}
    version = registry.register(files)
    if scheme == "runs":
        stored = registry.client.get_model_version(registry.name, version).source
        version = registry.register({}, source=f"runs:/{registry.run.info.run_id}/{Path(stored).name}")
    registry.alias("champion", version)
    source = registry.source()
    offer = newest(source)
    listed = source.files(offer)
    assert sorted(listed, key=lambda file: file.path) == [
        RemoteFile("MLmodel", 7),
        RemoteFile("data/deeper/weights.bin", 25_600),
        RemoteFile("empty", 0),
    ]
    for file in listed:
        part = tmp_path / "part"
        part.write_bytes(b"from an earlier attempt")
        source.download(offer, file, part, threading.Event())
        assert part.read_bytes() == files[file.path]
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["part"]


def test_a_logged_model_is_downloaded(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DO_NOT_TRACK", "true")
    code = tmp_path / "model.py"
    code.write_text("import mlflow\n\n\nmlflow.models.set_model(mlflow.pyfunc.PythonModel())\n")
    mlflow.set_tracking_uri(registry.server.url)
    try:
        logged = mlflow.pyfunc.log_model(
            name="model", python_model=str(code), pip_requirements=[], registered_model_name=registry.name
        )
    finally:
        mlflow.set_tracking_uri(None)
    registry.alias("champion", str(logged.registered_model_version))
    source = registry.source()
    offer = newest(source)
    files = {file.path: file for file in source.files(offer)}
    assert "MLmodel" in files
    source.download(offer, files["model.py"], tmp_path / "part", threading.Event())
    assert (tmp_path / "part").read_text() == code.read_text()


def test_an_older_offer_still_has_its_files(registry: Registry, tmp_path: Path) -> None:
    one, two = registry.register({"one": b"1"}), registry.register({"two": b"2"})
    source = registry.source()
    registry.alias("champion", one)
    first = newest(source)
    registry.alias("champion", two)
    assert source.files(newest(source)) == (RemoteFile("two", 1),)
    assert source.files(first) == (RemoteFile("one", 1),)


def test_a_version_without_files_is_rejected(registry: Registry) -> None:
    registry.alias("champion", registry.register({}, source=f"{registry.run.info.artifact_uri}/nothing"))
    source = registry.source()
    with pytest.raises(RejectedError, match="has no files: log a model to it"):
        source.files(newest(source))


def test_a_missing_file(registry: Registry, tmp_path: Path) -> None:
    registry.alias("champion", registry.register({"MLmodel": b"x"}))
    source = registry.source()
    with pytest.raises(SourceError, match=r"does not have weights\.bin of models:/sentiment-.*: register it"):
        source.download(newest(source), RemoteFile("weights.bin", 1), tmp_path / "part", threading.Event())
    assert not (tmp_path / "part").exists()


def test_a_disk_error_is_not_a_source_error(registry: Registry, tmp_path: Path) -> None:
    registry.alias("champion", registry.register({"MLmodel": b"x"}))
    source = registry.source()
    (tmp_path / "part").mkdir()
    with pytest.raises(OSError, match="directory"):
        source.download(newest(source), RemoteFile("MLmodel", 1), tmp_path / "part", threading.Event())


@pytest.mark.parametrize("by", ["alias", "stage"])
def test_a_tag_is_the_signature_and_does_not_change_the_digest(registry: Registry, by: str) -> None:
    version = registry.register({"MLmodel": b"x"})
    registry.alias("champion", version) if by == "alias" else registry.stage("Production", version)
    source = registry.source()
    first = newest(source)
    assert first.signature is None
    source.set_signature(first, "c2ln")
    assert newest(source) == source.version("sentiment", version) == replace(first, signature="c2ln")
    assert registry.client.get_model_version(registry.name, version).tags == {"bunriwiki.signature": "c2ln"}


def test_a_missing_version_cannot_be_signed(registry: Registry) -> None:
    version = registry.register({"MLmodel": b"x"})
    source = registry.source()
    offer = source.version("sentiment", version)
    with pytest.raises(SourceError, match=r"does not have the version 9 of the registered model"):
        source.version("sentiment", "9")
    registry.client.delete_model_version(registry.name, version)
    with pytest.raises(SourceError, match=rf"does not have models:/{registry.name}/{version}"):
        source.set_signature(offer, "c2ln")


def test_a_model_that_is_not_registered(server: MlflowServer) -> None:
    with pytest.raises(SourceError, match=f"MLflow at {server.url} does not have the registered model 'nobody'"):
        MlflowSource(server.url, {"sentiment": "nobody"}).newest("sentiment")


def test_a_server_that_is_down_and_comes_back(registry: Registry, tmp_path: Path) -> None:
    registry.alias("champion", registry.register({"MLmodel": b"x"}))
    source = registry.source()
    offer = newest(source)
    source.files(offer)
    registry.server.kill()
    try:
        for request in (
            lambda: source.newest("sentiment"),
            lambda: source.files(offer),
            lambda: source.download(offer, RemoteFile("MLmodel", 1), tmp_path / "part", threading.Event()),
        ):
            with pytest.raises(SourceError, match=f"MLflow at {registry.server.url} cannot be reached: start it"):
                request()
    finally:
        registry.server.start()
    assert newest(source) == offer


def test_a_server_that_does_not_answer(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    source = registry.source()
    registry.server.pause()
    try:
        with pytest.raises(SourceError, match="cannot be reached"):
            source.newest("sentiment")
    finally:
        registry.server.resume()


@pytest.fixture
def answering() -> Iterator[Callable[[int], str]]:
    """Starts a server that answers everything with one status: `answering(403)` returns its URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "requires credentials: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (403, "rejects the registered model 'ensemble': grant access to these credentials"),
        (500, "cannot be queried for the registered model 'ensemble'"),
        (503, "cannot be queried for the registered model 'ensemble'"),
    ],
)
def test_errors_of_mlflow(status: int, message: str, answering: Callable[[int], str]) -> None:
    address = answering(status).removeprefix("http://")
    with pytest.raises(SourceError, match=f"MLflow at http://{address} {message}") as caught:
        MlflowSource(f"http://someone:hidden@{address}/", {"sentiment": "ensemble"}).newest("sentiment")
    assert "hidden" not in str(caught.value)


def test_a_password_in_the_address_is_not_reported() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(SourceError) as caught:
        MlflowSource(f"http://someone:hidden@{address}", {"sentiment": "ensemble"}).newest("sentiment")
    assert address in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_timeouts_and_retries_are_reduced_unless_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "7")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "to be restored")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT")
    MlflowSource("http://127.0.0.1:1", {})
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "7"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"
