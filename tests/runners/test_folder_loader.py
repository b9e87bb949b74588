from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from bunriwiki.artifacts.manifest import DamagedArtifactError
from bunriwiki.model_store.generation_watcher import Candidate
from bunriwiki.telemetry.process_memory import resident_memory
from bunriwiki.testing.paths import MODELS
from bunriwiki.testing.versions import BUNDLED_VERSION
from runners.folder_loader import FolderLoader
from runners.kcbert import KcBert
from runners.sentiment import Sentiment
from runners.yolo import Yolo

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("name", "model"), [("yolo", Yolo), ("kcbert", KcBert), ("sentiment", Sentiment)])
def test_an_unloaded_model_gives_its_memory_back(name: str, model: Callable[[Path], Yolo | KcBert | Sentiment]) -> None:
    loader = FolderLoader(model, Candidate(BUNDLED_VERSION, MODELS / name))
    taken = []
    for _ in range(3):
        loader.load()
        loader.warm_up()
        loaded = resident_memory()
        servable = weakref.ref(loader.servable)
        loader.unload()
        assert servable() is None
        taken.append(loaded - resident_memory())
    assert min(taken) > 20 * 2**20
    with pytest.raises(RuntimeError, match="not loaded"):
        _ = loader.servable


def test_a_folder_with_another_version_is_rejected() -> None:
    with pytest.raises(DamagedArtifactError, match=f"holds {BUNDLED_VERSION}"):
        FolderLoader(KcBert, Candidate("v1", MODELS / "kcbert")).load()
