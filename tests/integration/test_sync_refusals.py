"""What must never serve: published to real registries, rejected by the real sidecar, with the right reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mlflow_models import Registrar
from tests.published import compiled, hostile_checkpoint, pyfunc, untrained_classifier
from tests.registries import MlflowServer, SeaweedFS
from tests.sidecar import Publisher, Sidecar, files_of, s3_environment


@dataclass
class Registries:
    s3: Publisher
    mlflow: Registrar
    sidecar: Sidecar


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registries]:
    root = tmp_path_factory.mktemp("rejections")
    with SeaweedFS(root / "s3") as s3, MlflowServer(root / "mlflow") as mlflow:
        publisher = Publisher(s3)
        publisher.publish("kcbert", "good", compiled("kcbert", root / "kcbert", "good"))
        publisher.publish("yolo", "good", compiled("yolo", root / "yolo", "good"))
        registrar = Registrar(mlflow.url)
        registrar.register(pyfunc(root / "sentiment"), "champion")
        environment = {**s3_environment(s3), "MLFLOW_TRACKING_URI": mlflow.url, "BUNRIWIKI_POLL_INTERVAL_SECONDS": "3600"}
        sidecar = Sidecar(root / "store", root / "log", environment).start()
        try:
            for model in ("kcbert", "yolo", "sentiment"):
                sidecar.wait_for(model, "promoted")
            yield Registries(publisher, registrar, sidecar)
        finally:
            sidecar.stop()


def rejected(registries: Registries, model: str, version: str, reason: str) -> None:
    """A look rejects the version for `reason`, quarantines it, and the next look leaves it alone; what serves stays."""
    sidecar = registries.sidecar
    serving = sidecar.serving(model)
    activations = len(sidecar.events("activated"))
    found = sidecar.look(model)["outcomes"][model]
    assert (found["status"], found["version"]) == ("rejected", version)
    assert re.search(reason, found["reason"]), found["reason"]
    assert sidecar.look(model)["outcomes"][model] == found
    [quarantined] = [event for event in sidecar.events("quarantined", model) if event.version == version]
    assert quarantined.reason == found["reason"]
    assert (sidecar.serving(model), len(sidecar.events("activated"))) == (serving, activations)
    assert not sidecar.layout.version(model, version).exists()
    assert not list(sidecar.layout.staging.iterdir())


def test_a_file_that_was_cut_short(registries: Registries, tmp_path: Path) -> None:
    folder = compiled("kcbert", tmp_path / "v", "cut")
    registries.s3.upload("kcbert", "cut", files_of(folder))
    registries.s3.spoil("kcbert", "model.onnx", (folder / "model.onnx").read_bytes()[:-1000])
    registries.s3.announce()
    rejected(registries, "kcbert", "cut", r"model\.onnx has \d+ bytes in S3, latest_model\.yaml says \d+")


def test_a_file_that_is_another_one(registries: Registries, tmp_path: Path) -> None:
    folder = compiled("kcbert", tmp_path / "v", "other")
    registries.s3.upload("kcbert", "other", files_of(folder))
    data = bytearray((folder / "model.onnx").read_bytes())
    data[5000] ^= 1
    registries.s3.spoil("kcbert", "model.onnx", bytes(data))
    registries.s3.announce()
    rejected(registries, "kcbert", "other", r"model\.onnx: sha256 is [0-9a-f]{64}, latest_model\.yaml says [0-9a-f]{64}")


def test_random_bytes(registries: Registries, tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(bytes(range(256)) * 4000)
    registries.s3.publish("yolo", "random", tmp_path / "best.pt")
    rejected(registries, "yolo", "random", r"best\.pt is no checkpoint")


def test_a_pickle_that_would_write_a_file(registries: Registries, tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    registries.s3.upload("yolo", "hostile", [("best.pt", hostile_checkpoint(harm))])
    registries.s3.announce()
    rejected(registries, "yolo", "hostile", r"best\.pt asks for builtins\.exec")
    assert not harm.exists()


def test_code_of_a_pyfunc_that_would_write_a_file(registries: Registries, tmp_path: Path) -> None:
    """A pyfunc is code, and has to run: here it is the kernel that stops it."""
    harm = tmp_path / "harm"
    version = registries.mlflow.register(pyfunc(tmp_path / "m", predict=f"open({str(harm)!r}, 'w').write('harm')"), "champion")
    rejected(registries, "sentiment", version, f"Permission denied: '{harm}'")
    assert not harm.exists()


def test_the_right_file_with_permuted_labels(registries: Registries, tmp_path: Path) -> None:
    registries.s3.publish("kcbert", "permuted", compiled("kcbert", tmp_path / "v", "permuted", turn=1))
    rejected(registries, "kcbert", "permuted", r"^quality: macro F1 \d+\.\d on 471 reference inputs, what serves has 59\.4")


def test_a_model_that_is_right_and_slow(registries: Registries, tmp_path: Path) -> None:
    slow = pyfunc(tmp_path / "m", predict="import time; time.sleep(0.1)")
    version = registries.mlflow.register(slow, "champion")
    rejected(registries, "sentiment", version, r"^latency: \d+\.\d times as long as what serves")


def test_a_pyfunc_that_raises(registries: Registries, tmp_path: Path) -> None:
    raising = pyfunc(tmp_path / "m", predict="raise ValueError('no such feature')")
    version = registries.mlflow.register(raising, "champion")
    rejected(registries, "sentiment", version, "no such feature")


def test_a_pyfunc_with_a_requirement_that_is_missing(registries: Registries, tmp_path: Path) -> None:
    version = registries.mlflow.register(pyfunc(tmp_path / "m", requirements=("catboost==1.2.8",)), "champion")
    rejected(
        registries, "sentiment", version, r"the runner has no catboost==1\.2\.8; to install: .*pip install catboost==1\.2\.8"
    )


def test_a_folder_without_its_tokenizer(registries: Registries, tmp_path: Path) -> None:
    registries.s3.publish("kcbert", "mute", untrained_classifier(tmp_path / "v", tokenizer=False))
    rejected(registries, "kcbert", "mute", "tokenizer")


def test_force_takes_a_version_past_the_gates_and_the_history_says_so(registries: Registries, tmp_path: Path) -> None:
    registries.s3.publish("kcbert", "forced", compiled("kcbert", tmp_path / "v", "forced", turn=2))
    sidecar = registries.sidecar
    assert sidecar.look("kcbert")["outcomes"]["kcbert"]["status"] == "rejected"
    assert sidecar.look("kcbert", force=True)["outcomes"]["kcbert"]["status"] == "promoted"
    [published] = [event for event in sidecar.events("published", "kcbert") if event.version == "forced"]
    assert (published.forced, published.by) == (True, "operator")
    assert published.reason
    assert published.reason.startswith("quality: macro F1")
