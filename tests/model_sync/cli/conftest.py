from __future__ import annotations

import os
from pathlib import Path

import pytest

from bunriwiki.testing.ports import free_port
from tests.bunriwiki.model_store.conftest import make_version, writer

__all__ = ["make_version", "writer"]  # fixtures


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where only the store of `writer` is set, without a sidecar."""
    for name in list(os.environ):
        if name.startswith(("BUNRIWIKI_", "AWS_", "MLFLOW_")) or name in {"LC_ALL", "LC_MESSAGES", "LANG", "PORT"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("BUNRIWIKI_MODEL_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("BUNRIWIKI_SYNC_PORT", str(free_port()))
    monkeypatch.setenv("LANG", "en_US.UTF-8")
