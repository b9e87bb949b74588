"""Required signatures, from the registry to the generation file: the real sidecar, a folder, a real MLflow server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bunriwiki.testing.keys import make_keys
from bunriwiki.testing.mlflow_server import MlflowServer
from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.registrar import Registrar
from bunriwiki.testing.sidecar import Sidecar
from bunriwiki.testing.versions import compiled, pyfunc


@dataclass
class Signed:
    """A deployment that requires signatures by the key in `private`."""

    mlflow: Registrar
    url: str
    folder: Path  # of kcbert's versions
    private: Path
    sidecar: Sidecar

    def sync(self, model: str, *, force: bool = False) -> tuple[str, str | None]:
        found = self.sidecar.sync(model, force=force)["outcomes"][model]
        return found["status"], found["reason"]

    def sign(self, *arguments: str | Path) -> str:
        """Sign as a publisher does; what the command prints."""
        command = [sys.executable, "-m", "model_sync", "sign", *arguments, "--key", self.private]
        environment = {"PATH": "", "MLFLOW_TRACKING_URI": self.url}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, reference: dict[str, str]) -> Iterator[Signed]:
    root = tmp_path_factory.mktemp("signed")
    private, public = make_keys(root)
    (root / "kcbert").mkdir()
    with MlflowServer(root / "mlflow") as mlflow:
        environment = {
            "MLFLOW_TRACKING_URI": mlflow.url,
            "BUNRIWIKI_SOURCES": f"sentiment=mlflow kcbert=local:{root / 'kcbert'}",
            "BUNRIWIKI_POLL_INTERVAL_SECONDS": "3600",
            "BUNRIWIKI_PUBLIC_KEY": str(public),
            **reference,
        }
        registrar = Registrar(mlflow.url)
        sidecar = Sidecar(root / "store", root / "log", environment).start()
        try:
            sidecar.wait_for_status("kcbert", "unchanged")
            yield Signed(registrar, mlflow.url, root / "kcbert", private, sidecar)
        finally:
            sidecar.stop()


def test_a_version_in_mlflow_is_rejected_until_it_has_its_tag(signed: Signed, tmp_path: Path) -> None:
    model = pyfunc(tmp_path / "model")
    version = signed.mlflow.register(model, "champion")
    for force in (False, True):
        status, reason = signed.sync("sentiment", force=force)
        assert status == "rejected"
        assert reason
        assert reason.startswith(f"sentiment {version} has no signature, which BUNRIWIKI_PUBLIC_KEY requires: sign it with")
    signed.mlflow.client.set_model_version_tag(signed.mlflow.name, version, "bunriwiki.signature", "A" * 86 + "==")
    status, reason = signed.sync("sentiment")
    assert (status, "is for other content" in str(reason)) == ("rejected", True)
    assert signed.sidecar.serving("sentiment") is None
    assert "is signed" in signed.sign("sentiment", model, "--version", version, "--mlflow")
    assert signed.sync("sentiment") == ("promoted", None)
    assert signed.sidecar.serving("sentiment") == version


def test_a_compiled_version_in_a_folder_is_rejected_until_it_is_signed(signed: Signed) -> None:
    folder = compiled("kcbert", signed.folder / "v1")
    assert signed.sync("kcbert")[0] == "rejected"
    (folder / "signature").write_text(signed.sign("kcbert", folder, "--version", "v1"))
    assert signed.sync("kcbert") == ("promoted", None)
    replayed = compiled("kcbert", signed.folder / "v2")
    (replayed / "signature").write_bytes((folder / "signature").read_bytes())
    status, reason = signed.sync("kcbert")
    assert (status, "is for other content" in str(reason)) == ("rejected", True)
    described = json.loads(signed.sign("kcbert", replayed, "--version", "v2", "--json"))
    assert {"manifest.yaml", "model.onnx"} <= {path for path, _, _ in described["files"]}
