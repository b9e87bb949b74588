"""Versions that must never serve: published to real registries, rejected by the real sidecar, with the right reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.testing.hostile import hostile_checkpoint
from bunriwiki.testing.mlflow_server import MlflowServer
from bunriwiki.testing.publisher import Publisher, files_of, s3_environment
from bunriwiki.testing.registrar import Registrar
from bunriwiki.testing.seaweedfs import SeaweedFS
from bunriwiki.testing.sidecar import Sidecar
from bunriwiki.testing.stores import serve_from_store
from bunriwiki.testing.untrained import untrained_classifier
from bunriwiki.testing.versions import compiled, pyfunc


@dataclass
class Deployment:
    """A sidecar that syncs with both registries, and a store in which the version `good` of each model serves."""

    s3: Publisher
    mlflow: Registrar
    sidecar: Sidecar


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    root = tmp_path_factory.mktemp("rejections")
    with SeaweedFS(root / "s3") as s3, MlflowServer(root / "mlflow") as mlflow:
        publisher, registrar = Publisher(s3), Registrar(mlflow.url)
        publisher.announce()
        for model in MODELS:
            serve_from_store(root / "store", compiled(model, root / "good" / model, "good"))
        environment = {**s3_environment(s3), "MLFLOW_TRACKING_URI": mlflow.url, "BUNRIWIKI_POLL_INTERVAL_SECONDS": "3600"}
        sidecar = Sidecar(root / "store", root / "log", environment).start()
        try:
            for model in MODELS:
                sidecar.wait_for_status(model, "unchanged")
            yield Deployment(publisher, registrar, sidecar)
        finally:
            sidecar.stop()


def rejected(deployment: Deployment, model: str, version: str, reason: str) -> None:
    """A sync rejects and quarantines the version for `reason`, the next sync leaves it there, and the serving version stays."""
    sidecar = deployment.sidecar
    serving = sidecar.serving(model)
    assert serving
    activations = len(sidecar.events("activated"))
    found = sidecar.sync(model)["outcomes"][model]
    assert (found["status"], found["version"]) == ("rejected", version)
    assert re.search(reason, found["reason"]), found["reason"]
    assert sidecar.sync(model)["outcomes"][model] == found
    [quarantined] = [event for event in sidecar.events("quarantined", model) if event.version == version]
    assert quarantined.reason == found["reason"]
    assert (sidecar.serving(model), len(sidecar.events("activated"))) == (serving, activations)
    assert not sidecar.layout.version(model, version).exists()
    assert not list(sidecar.layout.staging.iterdir())


def test_a_file_that_was_cut_short(deployment: Deployment, tmp_path: Path) -> None:
    folder = compiled("kcbert", tmp_path / "v", "cut")
    deployment.s3.upload("kcbert", "cut", files_of(folder))
    deployment.s3.overwrite("kcbert", "model.onnx", (folder / "model.onnx").read_bytes()[:-1000])
    deployment.s3.announce()
    rejected(deployment, "kcbert", "cut", r"model\.onnx has \d+ bytes in S3, latest_model\.yaml says \d+")


def test_a_file_with_other_bytes(deployment: Deployment, tmp_path: Path) -> None:
    folder = compiled("kcbert", tmp_path / "v", "other")
    deployment.s3.upload("kcbert", "other", files_of(folder))
    data = bytearray((folder / "model.onnx").read_bytes())
    data[5000] ^= 1
    deployment.s3.overwrite("kcbert", "model.onnx", bytes(data))
    deployment.s3.announce()
    rejected(deployment, "kcbert", "other", r"model\.onnx: sha256 is [0-9a-f]{64}, latest_model\.yaml says [0-9a-f]{64}")


def test_random_bytes(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(bytes(range(256)) * 4000)
    deployment.s3.publish("yolo", "random", tmp_path / "best.pt")
    rejected(deployment, "yolo", "random", r"best\.pt is not a checkpoint")


def test_a_pickle_that_would_write_a_file(deployment: Deployment, tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    deployment.s3.upload("yolo", "hostile", [("best.pt", hostile_checkpoint(harm))])
    deployment.s3.announce()
    rejected(deployment, "yolo", "hostile", r"best\.pt references builtins\.exec")
    assert not harm.exists()


def test_code_of_a_pyfunc_that_would_write_a_file(deployment: Deployment, tmp_path: Path) -> None:
    """A pyfunc is code, and has to run: it is the kernel that stops it."""
    harm = tmp_path / "harm"
    version = deployment.mlflow.register(pyfunc(tmp_path / "m", predict=f"open({str(harm)!r}, 'w').write('harm')"), "champion")
    rejected(deployment, "sentiment", version, f"Permission denied: '{harm}'")
    assert not harm.exists()


def test_a_model_with_permuted_labels(deployment: Deployment, tmp_path: Path) -> None:
    deployment.s3.publish("kcbert", "permuted", compiled("kcbert", tmp_path / "v", "permuted", rotation=1))
    rejected(deployment, "kcbert", "permuted", r"^quality: macro F1 \d+\.\d on 471 .*, the serving version has 59\.4")


def test_a_model_that_is_slow(deployment: Deployment, tmp_path: Path) -> None:
    slow = pyfunc(tmp_path / "m", predict="import time; time.sleep(0.05)")
    version = deployment.mlflow.register(slow, "champion")
    rejected(deployment, "sentiment", version, r"^latency: \d+\.\d times as long as the serving version")


def test_a_pyfunc_that_raises(deployment: Deployment, tmp_path: Path) -> None:
    raising = pyfunc(tmp_path / "m", predict="raise ValueError('no such feature')")
    version = deployment.mlflow.register(raising, "champion")
    rejected(deployment, "sentiment", version, "no such feature")


def test_a_pyfunc_with_a_requirement_that_is_missing(deployment: Deployment, tmp_path: Path) -> None:
    version = deployment.mlflow.register(pyfunc(tmp_path / "m", requirements=("catboost==1.2.8",)), "champion")
    rejected(deployment, "sentiment", version, r"are not installed: catboost==1\.2\.8\. Run .*pip install catboost==1\.2\.8")


def test_a_folder_without_its_tokenizer(deployment: Deployment, tmp_path: Path) -> None:
    deployment.s3.publish("kcbert", "mute", untrained_classifier(tmp_path / "v", tokenizer=False))
    rejected(deployment, "kcbert", "mute", "tokenizer")


def test_a_forced_version_serves_in_spite_of_the_gates(deployment: Deployment, tmp_path: Path) -> None:
    deployment.s3.publish("kcbert", "forced", compiled("kcbert", tmp_path / "v", "forced", rotation=2))
    sidecar = deployment.sidecar
    assert sidecar.sync("kcbert")["outcomes"]["kcbert"]["status"] == "rejected"
    assert sidecar.sync("kcbert", force=True)["outcomes"]["kcbert"]["status"] == "promoted"
    [published] = [event for event in sidecar.events("published", "kcbert") if event.version == "forced"]
    assert (published.forced, published.by) == (True, "operator")
    assert published.reason
    assert published.reason.startswith("quality: macro F1")
