from __future__ import annotations

from pathlib import Path

import pytest

from model_sync.errors import RejectedError
from model_sync.sources.artifact_locations import DEFAULT, ArtifactLocations

SERVER = "http://someone:hidden@mlflow.example.org:5000/base"


@pytest.mark.parametrize("uri", ["mlflow-artifacts:/1/run/artifacts", "mlflow-artifacts://mlflow.example.org:5000/1/run"])
def test_the_tracking_server_is_allowed_by_default(uri: str) -> None:
    ArtifactLocations(DEFAULT, SERVER).require(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "file:///home/someone/.aws",
        "FILE:///home/someone/.aws",
        "/home/someone/.aws",
        "../.aws",
        "",
        "mlflow-artifacts://other.example.org/1",
        "mlflow-artifacts://mlflow.example.org:5000@other.example.org/1",
        "mlflow-artifacts://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:3002/state",
        "s3://other/1",
        "runs:/abc/model",
        "models:/other/1",
        "dbfs:/1",
    ],
)
def test_everything_else_is_rejected_by_default(uri: str) -> None:
    with pytest.raises(RejectedError, match="BUNRIWIKI_MLFLOW_ARTIFACTS"):
        ArtifactLocations(DEFAULT, SERVER).require(uri)


def test_the_password_of_a_location_is_not_shown() -> None:
    with pytest.raises(RejectedError) as error:
        ArtifactLocations(DEFAULT, SERVER).require("https://someone:secret@other.example.org/1")
    assert "secret" not in str(error.value)


def test_buckets_hosts_and_paths(tmp_path: Path) -> None:
    allowed = ArtifactLocations(f"s3://models, https://a.example.org/mlflow gs file://{tmp_path}/mlruns", SERVER)
    for uri in ("s3://models/1/a", "https://a.example.org/mlflow/1", "gs://any/1", f"file://{tmp_path}/mlruns/1"):
        allowed.require(uri)
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "link").symlink_to(tmp_path)
    for uri in (
        "s3://models-2/1",
        "https://a.example.org/mlflow-2/1",
        "https://a.example.org:8443/mlflow/1",
        "https://a.example.org/mlflow/../admin",
        "https://a.example.org/mlflow/%2e%2e/admin",
        f"file://{tmp_path}/mlruns/../secret",
        f"file://{tmp_path}/mlruns/%2e%2e/secret",
        f"file://{tmp_path}/mlruns-2",
        f"file://{tmp_path}/mlruns/link/secret",
        "mlflow-artifacts:/1",
    ):
        with pytest.raises(RejectedError):
            allowed.require(uri)


@pytest.mark.parametrize("text", ["file", "file:///", "file://host", "http", "ftp", "runs", "models://x", "/srv", "S3", "://x"])
def test_an_entry_that_would_allow_too_much_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"requires|should be"):
        ArtifactLocations(text)
