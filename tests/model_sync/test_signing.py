"""Signatures are valid for what the registries offer: a folder, and a real MLflow server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import mlflow.artifacts
import mlflow.pyfunc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from bunriwiki.testing.keys import make_keys
from bunriwiki.testing.mlflow_server import MlflowServer
from bunriwiki.testing.registrar import Registrar
from model_sync.errors import PublishError
from model_sync.signatures import Signatures, describe
from model_sync.signing import read_key, sign_path
from model_sync.sources.local import LocalSource
from model_sync.sources.mlflow_registry import MlflowSource
from model_sync.tagging import tag

pytestmark = pytest.mark.slow  # mlflow


class Signer:
    """A private key, and the signatures by it that are required."""

    def __init__(self, folder: Path) -> None:
        private, public = make_keys(folder)
        self.key = read_key(private)
        self.required = Signatures.read([public])


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with files of every kind."""
    folder = tmp_path / "models" / "v1"
    (folder / "code" / "__pycache__").mkdir(parents=True)
    for path in ("MLmodel", ".hidden", "code/a.py", "code/__pycache__/a.pyc", "code/signature"):
        (folder / path).write_text(path)
    return folder


def reject(kind: str, message: str, do: Callable[[], object]) -> None:
    with pytest.raises(PublishError, match=message) as caught:
        do()
    assert caught.value.kind == kind


def test_a_folder_for_a_local_source(signer: Signer, model: Path) -> None:
    for _ in range(2):  # the second time, the folder contains the signature
        signed = sign_path("sentiment", model, "v1", signer.key)
        assert len(signed.files) == 5
        (model / "signature").write_text(signed.signature + "\n")
        offer = LocalSource({"sentiment": model.parent}).newest("sentiment")
        assert offer
        signer.required.verify(offer, signed.files)


def test_a_file_is_signed(signer: Signer, model: Path) -> None:
    [file] = sign_path("sentiment", model / "MLmodel", "v1", signer.key).files
    assert (file.path, file.size) == ("MLmodel", 7)


def test_what_cannot_be_signed(signer: Signer, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    reject("failed", "does not exist", lambda: sign_path("yolo", tmp_path / "nowhere", "v1", signer.key))
    reject("rejected", "no file in", lambda: sign_path("yolo", tmp_path / "empty", "v1", signer.key))
    reject("rejected", "no slashes", lambda: sign_path("yolo", model, "v/1", signer.key))

    def broken(_: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("model_sync.signing.describe", broken)
    reject("failed", "cannot be read: .*Input/output error", lambda: sign_path("yolo", model, "v1", signer.key))


def test_an_invalid_key(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no key")
    reject("settings", "is not a PEM file with an unencrypted private key", lambda: read_key(tmp_path / "text.pem"))
    reject("settings", "is not a PEM file", lambda: read_key(tmp_path / "none.pem"))
    key = Ed25519PrivateKey.generate()
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a password"))
    (tmp_path / "encrypted.pem").write_bytes(encrypted)
    reject("settings", "is not a PEM file with an unencrypted", lambda: read_key(tmp_path / "encrypted.pem"))
    other = X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "other.pem").write_bytes(other)
    reject("settings", "is not an Ed25519 key", lambda: read_key(tmp_path / "other.pem"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


def test_a_version_in_mlflow(server: MlflowServer, signer: Signer, model: Path) -> None:
    registrar = Registrar(server.url, "signed")
    version = registrar.register(model, "champion")
    signed = tag(sign_path("sentiment", model, version, signer.key), server.url, "signed")
    assert signed.uri == f"models:/signed/{version}"
    source = MlflowSource(server.url, {"sentiment": "signed"})
    offer = source.newest("sentiment")
    assert offer
    assert sorted(file.path for file in source.files(offer)) == sorted(file.path for file in signed.files)
    signer.required.verify(offer, describe(model))


def test_a_logged_model_is_signed_as_it_is_downloaded(
    server: MlflowServer, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DO_NOT_TRACK", "true")
    code = tmp_path / "model.py"
    code.write_text("import mlflow\n\n\nmlflow.models.set_model(mlflow.pyfunc.PythonModel())\n")
    mlflow.set_tracking_uri(server.url)
    try:
        logged = mlflow.pyfunc.log_model(
            name="model", python_model=str(code), pip_requirements=[], registered_model_name="logged"
        )
        version = str(logged.registered_model_version)
        (tmp_path / "downloaded").mkdir()
        uri = f"models:/logged/{version}"
        folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path / "downloaded")))
    finally:
        mlflow.set_tracking_uri(None)
    signed = sign_path("sentiment", folder, version, signer.key)
    reject("rejected", r"\(registered_model_meta\)", lambda: tag(signed, server.url, "logged"))
    (folder / "registered_model_meta").unlink()
    assert tag(sign_path("sentiment", folder, version, signer.key), server.url, "logged").uri == uri


def test_a_version_in_mlflow_with_other_files_is_not_tagged(server: MlflowServer, signer: Signer, model: Path) -> None:
    registrar = Registrar(server.url, "other")
    version = registrar.register(model)
    for number in range(9):
        (model / f"{number}.more").touch()
    signed = sign_path("sentiment", model, version, signer.key)
    reject(
        "rejected",
        r"has other files than the signed ones \(0\.more, .*4\.more, \.\.\.\)",
        lambda: tag(signed, server.url, "other"),
    )
    assert registrar.client.get_model_version("other", version).tags == {}


def test_a_version_in_mlflow_that_is_missing_or_empty(
    server: MlflowServer, signer: Signer, model: Path, tmp_path: Path
) -> None:
    registrar = Registrar(server.url, "empty")
    (tmp_path / "nothing").mkdir()
    version = registrar.register(tmp_path / "nothing")
    signed = sign_path("sentiment", model, version, signer.key)
    reject("rejected", "has no files", lambda: tag(signed, server.url, "empty"))
    reject("unreachable", "does not have the version 1", lambda: tag(signed, server.url, "nobody"))
