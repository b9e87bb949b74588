from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bunriwiki.model_store.generation import Canary
from bunriwiki.settings import SOURCE_FORMS, Settings, SourceChoice, read
from model_sync.live.analysis import LiveLimits
from model_sync.registries import REGISTRIES
from model_sync.sandbox.run import Limits
from model_sync.settings import SyncSettings


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BUNRIWIKI_S3_URI", "MLFLOW_TRACKING_URI", "BUNRIWIKI_SOURCES", "BUNRIWIKI_SYNC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BUNRIWIKI_SERVE_PYTHON", "/bin/sh")  # any program


def test_no_model_is_synced_without_a_registry() -> None:
    assert read(SyncSettings).choices == {}
    assert not Settings().syncs


def test_sources_name_the_registry_of_each_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BUNRIWIKI_SOURCES", f"yolo=mlflow:detector, kcbert=local:{tmp_path} sentiment=mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert read(SyncSettings).choices == {
        "yolo": SourceChoice("mlflow", "detector"),
        "kcbert": SourceChoice("local", str(tmp_path)),
        "sentiment": SourceChoice("mlflow", "ensemble-sentiment-model"),
    }


def test_a_model_is_left_out_if_its_registry_is_not_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_S3_URI", "s3://bucket/models")
    assert set(read(SyncSettings).choices) == {"yolo", "kcbert"}
    assert Settings().syncs


def test_every_kind_of_registry_can_be_opened() -> None:
    assert {form.partition(":")[0] for form in SOURCE_FORMS} == REGISTRIES.keys()


@pytest.mark.parametrize("source", ["mlflow:", "local", "local:", "s3:", ""])
def test_a_source_has_one_of_the_forms(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.setenv("BUNRIWIKI_SOURCES", f"yolo={source}")
    with pytest.raises(SystemExit, match="must be <model>=<registry>"):
        read(SyncSettings)


def test_the_sidecar_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_S3_URI", "s3://bucket/models")
    monkeypatch.setenv("BUNRIWIKI_SYNC", "off")
    assert not Settings().syncs


def test_limits_and_thresholds_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_IMPORT_MEMORY_MB", "1024")
    monkeypatch.setenv("BUNRIWIKI_GATE_QUALITY_POINTS", "0.5")
    assert read(SyncSettings).limits == Limits(memory=2**30, seconds=600, threads=1)
    monkeypatch.setenv("BUNRIWIKI_IMPORT_DISK_MB", "100")
    monkeypatch.setenv("BUNRIWIKI_IMPORT_CGROUP", "off")
    limits = read(SyncSettings).limits
    assert (limits.disk, limits.cgroup, limits.user) == (100 * 2**20, "off", "auto")
    assert read(SyncSettings).thresholds.quality == 0.5


def test_signatures_are_required_if_there_is_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not read(SyncSettings).signatures.enforced
    for name in ("old", "new"):
        key = Ed25519PrivateKey.generate().public_key()
        (tmp_path / name).write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    monkeypatch.setenv("BUNRIWIKI_PUBLIC_KEY", f"{tmp_path / 'old'}, {tmp_path / 'new'},")
    assert read(SyncSettings).signatures.enforced


def test_limits_on_live_traffic_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(SyncSettings).canary_choice is None
    assert read(SyncSettings).live_limits == LiveLimits(requests=50, errors=5, latency=2, stuck=30, differences=20, accuracy=3)
    monkeypatch.setenv("BUNRIWIKI_CANARY_SHARE", "0.1")
    assert read(SyncSettings).canary_choice == Canary(share=0.1)
    monkeypatch.setenv("BUNRIWIKI_SHADOW", "on")
    assert read(SyncSettings).canary_choice == Canary(share=0.1, shadow=True)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("BUNRIWIKI_SOURCES", "yolo=ftp", "'yolo=ftp' must be <model>=<registry>"),
        ("BUNRIWIKI_SOURCES", "yolo=s3:bucket", "a registry of s3, mlflow, mlflow:<registered model>, local:<folder>"),
        ("BUNRIWIKI_SOURCES", "bert=s3", "with a model of yolo, kcbert, sentiment"),
        ("BUNRIWIKI_SOURCES", "yolo=local:/nowhere", "/nowhere, the registry of yolo, is not a folder"),
        ("BUNRIWIKI_SERVE_PYTHON", "/nowhere", "BUNRIWIKI_SERVE_PYTHON='/nowhere': is not an executable"),
        ("BUNRIWIKI_S3_URI", "https://bucket", "BUNRIWIKI_S3_URI='https://bucket'"),
        ("BUNRIWIKI_SYNC", "maybe", "BUNRIWIKI_SYNC='maybe'"),
        ("BUNRIWIKI_GATE_LABELS", "some", "BUNRIWIKI_GATE_LABELS='some'"),
        ("BUNRIWIKI_CANARY_SHARE", "10", "BUNRIWIKI_CANARY_SHARE='10'"),
        ("BUNRIWIKI_SHADOW", "on", "BUNRIWIKI_SHADOW=on requires BUNRIWIKI_CANARY_SHARE"),
        ("BUNRIWIKI_POLL_INTERVAL_SECONDS", "0", "BUNRIWIKI_POLL_INTERVAL_SECONDS='0'"),
        ("BUNRIWIKI_PUBLIC_KEY", "/nowhere", "BUNRIWIKI_PUBLIC_KEY='/nowhere': /nowhere cannot be read: No such file"),
        ("BUNRIWIKI_PUBLIC_KEY", " , ", "BUNRIWIKI_PUBLIC_KEY=' , ': names no file"),
        ("BUNRIWIKI_PUBLIC_KEY", __file__, "test_settings.py is not a PEM file with a public key"),
        ("BUNRIWIKI_IMPORT_CGROUP", "/nowhere", "BUNRIWIKI_IMPORT_CGROUP='/nowhere'"),
        ("BUNRIWIKI_IMPORT_USER", "nobody", "BUNRIWIKI_IMPORT_USER='nobody'"),
        ("BUNRIWIKI_IMPORT_DISK_MB", "0", "BUNRIWIKI_IMPORT_DISK_MB='0'"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        read(SyncSettings)
    assert message in str(stopped.value)


def test_a_missing_reference_set_stops_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BUNRIWIKI_S3_URI", "s3://bucket/models")
    monkeypatch.setenv("BUNRIWIKI_REFERENCE", str(tmp_path))
    with pytest.raises(SystemExit, match=r"BUNRIWIKI_REFERENCE='.*' has no yolo/reference\.jsonl"):
        read(SyncSettings)


def test_a_registry_that_no_model_uses_starts_no_sidecar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_SOURCES", "yolo=s3 kcbert=s3")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert not Settings().syncs
