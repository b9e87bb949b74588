"""The first version that a registry brings: an ordinary ensemble in a real MLflow, worse than the bundled model.

The real sidecar and the real service. The deployment's reference set are the reviews that the ensemble was not trained on.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from bunriwiki.testing.ensemble import Ensemble, train, write_held_out
from bunriwiki.testing.mlflow_server import MlflowServer
from bunriwiki.testing.registrar import Registrar
from bunriwiki.testing.server import Server
from bunriwiki.testing.sidecar import Sidecar


@dataclass
class Deployment:
    """A service on the bundled models, and a sidecar that syncs with an MLflow that has no version yet."""

    registrar: Registrar
    sidecar: Sidecar
    server: Server

    def release(self, folder: Path) -> str:
        """Register a version in the stage `Production`; its number."""
        version = self.registrar.register(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # MLflow prefers aliases
            self.registrar.client.transition_model_version_stage(
                self.registrar.name, version, "Production", archive_existing_versions=True
            )
        return version

    def sync(self) -> tuple[str, str, str]:
        """Status, version and reason."""
        outcome = self.sidecar.sync("sentiment")["outcomes"]["sentiment"]
        return outcome["status"], outcome["version"], outcome["reason"] or ""


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    return train()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    root = tmp_path_factory.mktemp("first")
    environment = {
        "BUNRIWIKI_SOURCES": "sentiment=mlflow",
        "BUNRIWIKI_POLL_INTERVAL_SECONDS": "3600",
        "BUNRIWIKI_REFERENCE": str(write_held_out(root / "reference")),
    }
    with MlflowServer(root / "mlflow") as mlflow:
        sidecar = Sidecar(root / "store", root / "sidecar.log", {**environment, "MLFLOW_TRACKING_URI": mlflow.url})
        server = Server(
            root / "server.log", environment={"BUNRIWIKI_MODEL_STORE": str(root / "store"), "BUNRIWIKI_SYNC": "off"}
        )
        try:
            registrar = Registrar(mlflow.url)
            sidecar.start().wait_for_status("sentiment", "unchanged")
            server.wait_until_ready()
            yield Deployment(registrar, sidecar, server)
        finally:
            sidecar.stop()
            server.stop()


def test_permuted_labels_do_not_serve_at_first_contact(deployment: Deployment, ensemble: Ensemble, tmp_path: Path) -> None:
    others = dict(zip(ensemble.labels, ensemble.labels[1:] + ensemble.labels[:1], strict=True))
    version = deployment.release(ensemble.renamed(others).save(tmp_path / "permuted"))
    status, found, reason = deployment.sync()
    print(reason)
    assert (status, found) == ("rejected", version)
    assert re.match(r"quality: macro F1 \d+\.\d on 200 reference inputs.*; the first version of a registry needs 46\.7", reason)
    assert deployment.sidecar.serving("sentiment") is None


def test_an_ordinary_ensemble_serves_at_first_contact(deployment: Deployment, ensemble: Ensemble, tmp_path: Path) -> None:
    version = deployment.release(ensemble.save(tmp_path / "ensemble"))
    assert deployment.sync() == ("promoted", version, "")
    deployment.server.wait_until_serving("sentiment", version, workers=1)
    answer = httpx.post(f"{deployment.server.url}/predict", json={"text": "정말 재미있고 감동적이었어요"}, timeout=30)
    assert (answer.status_code, answer.headers["X-Model-Version"]) == (200, version)
    assert answer.json()["sentiment"] == "긍정"
    state = deployment.sidecar.state("sentiment")
    assert state
    [quality] = [finding for finding in state.findings if finding.startswith("quality: ")]
    print(quality)
    figures = re.match(r"quality: macro F1 (\d+\.\d) on 200 .* the bundled version (\d+\.\d)\)", quality)
    assert figures
    assert 46.7 < float(figures[1]) < float(figures[2]) - 2  # more than a later version may lose


def test_the_next_version_is_compared_with_the_first(deployment: Deployment, ensemble: Ensemble, tmp_path: Path) -> None:
    """It is as good as the first, and not as the bundled model; with permuted labels it does not serve either."""
    version = deployment.release(ensemble.save(tmp_path / "again"))
    status, found, reason = deployment.sync()
    assert (status, found, reason) == ("promoted", version, "")
    state = deployment.sidecar.state("sentiment")
    assert state
    assert any("at most 2 points less are allowed" in finding for finding in state.findings)
