from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bentoml._internal.models import ModelStore

from bunriwiki.artifacts.manifest import DamagedArtifactError, Manifest
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.publication import VersionExistsError, forced_past, publish, registry_digest

MakeVersion = Callable[..., Path]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "store")
    layout.create()
    return layout


def test_a_version_is_published_for_the_runners_and_for_bentoml(layout: Layout, make_version: MakeVersion) -> None:
    steps: list[str] = []
    published = publish(layout, make_version("kcbert", "v1"), "s3://bucket", steps.append)
    place = layout.version("kcbert", "v1")
    assert Manifest.read(place) == published
    published.verify(place)
    assert steps == ["copied", "verified", "described", "synced", "renamed", "published"]
    assert sorted(path.name for path in place.iterdir()) == ["deeper", "manifest.yaml", "model.yaml"]
    assert list(layout.staging.iterdir()) == []
    [model] = ModelStore(layout.models).list()
    assert str(model.tag) == "kcbert:v1"
    assert model.info.metadata == {"source": "s3://bucket", "engine": "onnx"}
    assert layout.published() == {"kcbert": ["v1"]}


def test_bentoml_lists_published_versions(layout: Layout, make_version: MakeVersion) -> None:
    publish(layout, make_version("yolo", "v1"), "a test")
    publish(layout, make_version("yolo", "v2"), "a test")
    bentoml = Path(sys.executable).parent / "bentoml"
    shown = subprocess.run(
        [bentoml, "models", "list", "-o", "json"],
        env={**os.environ, "BENTOML_HOME": str(layout.root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"yolo:v1"' in shown.stdout
    assert '"yolo:v2"' in shown.stdout


def test_the_digest_of_the_registry_is_kept(layout: Layout, make_version: MakeVersion) -> None:
    for version, digest in (("v1", "sha256:abc"), ("v2", None)):
        publish(layout, make_version("yolo", version), "a test", digest_there=digest)
        folder = layout.version("yolo", version)
        assert (registry_digest(folder), forced_past(folder)) == (digest, None)
    assert registry_digest(layout.version("yolo", "v3")) is None


def test_publishing_a_version_again_changes_nothing(layout: Layout, make_version: MakeVersion) -> None:
    publish(layout, make_version("kcbert", "v1"), "a test")
    inode = layout.version("kcbert", "v1").stat().st_ino
    publish(layout, make_version("kcbert", "v1"), "a test")
    assert layout.version("kcbert", "v1").stat().st_ino == inode


def test_another_version_with_the_same_name_is_rejected(layout: Layout, make_version: MakeVersion) -> None:
    publish(layout, make_version("kcbert", "v1"), "a test")
    with pytest.raises(VersionExistsError, match="another kcbert:v1"):
        publish(layout, make_version("kcbert", "v1", "other weights"), "a test")


def test_a_damaged_version_is_not_published(layout: Layout, make_version: MakeVersion) -> None:
    folder = make_version("kcbert", "v1")
    (folder / "deeper" / "weights.bin").write_text("weighty")
    with pytest.raises(DamagedArtifactError, match="sha256"):
        publish(layout, folder, "a test")
    assert layout.published() == {}
    assert list(layout.staging.iterdir()) == []


def test_a_full_disk_leaves_nothing(layout: Layout, make_version: MakeVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        publish(layout, make_version("kcbert", "v1"), "a test")
    assert layout.published() == {}
    assert list(layout.staging.iterdir()) == []


def test_a_reserved_name_is_not_published(layout: Layout, make_version: MakeVersion) -> None:
    with pytest.raises(VersionExistsError, match="fallback is a reserved name"):
        publish(layout, make_version("yolo", "fallback"), "a test")
