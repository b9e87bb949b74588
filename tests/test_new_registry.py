"""Follows docs/new-registry.md: runs the code on that page, and syncs a model from the registry that it adds."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from bunriwiki.model_store.writer import StoreWriter
from bunriwiki.settings import SOURCE_FORMS, SourceChoice, read
from bunriwiki.testing.paths import MODELS, ROOT
from model_sync import registries
from model_sync.errors import SourceError
from model_sync.importing.cancellation import Cancellation
from model_sync.importing.fetch import fetch
from model_sync.importing.importer import Imported, Importer
from model_sync.reconciler import Reconciler
from model_sync.registries import REGISTRIES, describe, open_sources
from model_sync.settings import SyncSettings
from model_sync.signatures import describe as signed_files
from model_sync.sources import Offer, RemoteFile, Source
from model_sync.stop_event import StopEvent
from model_sync.syncing.report import Report
from tests.bunriwiki.model_store.conftest import MakeVersion, make_version, writer

__all__ = ["make_version", "writer"]  # fixtures

PAGE = (ROOT / "docs" / "new-registry.md").read_text(encoding="utf-8")
[EXAMPLE] = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SOURCE, OPENER, ENTRY, FORMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of step 1, installed as `model_sync.sources.index` and registered as in step 2."""
    path = tmp_path / "index.py"
    path.write_text(SOURCE, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("model_sync.sources.index", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    names = dict(vars(registries))
    exec(f"{OPENER}\nENTRIES = {{\n{ENTRY}}}\n{FORMS}", names)  # noqa: S102
    assert names["SOURCE_FORMS"] == (*SOURCE_FORMS, "index:<folder>")
    monkeypatch.setattr("bunriwiki.settings.SOURCE_FORMS", names["SOURCE_FORMS"])
    for kind, registry in names["ENTRIES"].items():
        monkeypatch.setitem(REGISTRIES, kind, registry)
    return module


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    folder = tmp_path / "registry"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(module: ModuleType, registry: Path, monkeypatch: pytest.MonkeyPatch) -> SyncSettings:
    monkeypatch.setenv("BUNRIWIKI_SOURCES", f"kcbert=index:{registry}")
    monkeypatch.setenv("BUNRIWIKI_SERVE_PYTHON", "/bin/sh")  # any program
    return read(SyncSettings)


@pytest.fixture
def source(settings: SyncSettings) -> Source:
    return open_sources(settings)["kcbert"]


class FetchingImporter:
    """Fetches an offer as the importer does. Nothing is compiled or evaluated: the registry has precompiled versions."""

    def __init__(self, downloads: Path) -> None:
        self._downloads = downloads

    @contextmanager
    def bring(self, source: Source, offer: Offer, version: str, serving: Path, *, force: bool) -> Iterator[Imported]:
        folder = fetch(source, offer, self._downloads, max_bytes=10**9, progress=lambda done, total: None, attempts=1)
        yield Imported(folder, None)


@pytest.fixture
def sync(source: Source, writer: StoreWriter) -> Callable[[], tuple[str, str | None, str | None]]:
    """Runs one sync of kcbert; returns its status, version and reason."""
    importer = cast("Importer", FetchingImporter(writer.layout.downloads))
    report = Report(writer.layout.sync, {"kcbert": "a test"})
    reconciler = Reconciler("kcbert", source, writer, importer, report, MODELS / "kcbert", Cancellation(StopEvent()))

    def run() -> tuple[str, str | None, str | None]:
        outcome = reconciler.sync("poll", force=False)
        return outcome.status, outcome.version, outcome.reason

    return run


def publish(registry: Path, folder: Path, version: str = "v1", **fields: str) -> None:
    """Publish the files of `folder`, and then the index."""
    for file in signed_files(folder):
        path = registry / "kcbert" / version / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((folder / file.path).read_bytes())
    files = [file._asdict() for file in signed_files(folder)]
    (registry / "index.json").write_text(json.dumps({"kcbert": {"version": version, "files": files, **fields}}))


def newest(source: Source) -> Offer:
    offer = source.newest("kcbert")
    assert offer
    return offer


def test_the_example_on_the_page_is_a_valid_index(module: ModuleType) -> None:
    assert module.Index.validate_json(EXAMPLE)["kcbert"].version == "v8"


def test_the_settings_accept_the_new_kind(settings: SyncSettings, registry: Path) -> None:
    assert settings.choices == {"kcbert": SourceChoice("index", str(registry))}
    assert settings.syncs
    assert describe(settings.choices["kcbert"], settings) == str(registry)


def test_a_version_is_promoted_from_the_new_registry(
    sync: Callable[[], Any], registry: Path, writer: StoreWriter, make_version: MakeVersion
) -> None:
    for version in ("v1", "v2"):
        publish(registry, make_version("kcbert", version, f"weights of {version}"), version)
        assert sync() == ("promoted", version, None)
        assert sync() == ("unchanged", version, None)
        serving = writer.generations().of("kcbert").serving
        assert serving
        assert (serving.version, serving.source) == (version, str(registry / "kcbert" / version))
        weights = writer.layout.version("kcbert", version) / "deeper" / "weights.bin"
        assert weights.read_text() == f"weights of {version}"


def test_a_file_that_differs_from_the_index_is_rejected(
    sync: Callable[[], Any], registry: Path, writer: StoreWriter, make_version: MakeVersion
) -> None:
    publish(registry, make_version("kcbert", "v1", "weights"))
    (registry / "kcbert" / "v1" / "deeper" / "weights.bin").write_text("WEIGHTS")
    status, version, reason = sync()
    assert (status, version) == ("rejected", "v1")
    assert "deeper/weights.bin: sha256 is" in reason
    assert writer.quarantine.find("kcbert", "v1")


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        (None, "cannot be read: No such file"),
        ("no JSON", "is not a valid index: Invalid JSON"),
        ('{"kcbert": {"version": "v1", "files": []}}', "is not a valid index: List should have at least 1 item"),
        ('{"kcbert": {"version": "../v1", "files": []}}', "is not a valid index: String should match"),
    ],
)
def test_an_unusable_index_makes_the_registry_unreachable(
    sync: Callable[[], Any], registry: Path, index: str | None, reason: str
) -> None:
    if index is not None:
        (registry / "index.json").write_text(index)
    status, _, found = sync()
    assert status == "unreachable"
    assert reason in found


def test_a_missing_file_makes_the_registry_unreachable(
    sync: Callable[[], Any], registry: Path, make_version: MakeVersion
) -> None:
    publish(registry, make_version())
    (registry / "kcbert" / "v1" / "manifest.yaml").unlink()
    status, _, reason = sync()
    assert status == "unreachable"
    assert "upload it before index.json names it" in reason


def test_an_index_without_the_model_names_no_version(sync: Callable[[], Any], registry: Path) -> None:
    (registry / "index.json").write_text("{}")
    assert sync() == ("unchanged", None, "the registry names no version")


def test_the_digest_changes_with_the_files_only(source: Source, registry: Path, make_version: MakeVersion) -> None:
    publish(registry, make_version("kcbert", "v1", "weights"))
    first = newest(source)
    publish(registry, make_version("kcbert", "v1", "weights"), signature="c2ln")
    assert newest(source) == replace(first, signature="c2ln")
    publish(registry, make_version("kcbert", "v1", "WEIGHTS"))
    assert newest(source).digest != first.digest
    with pytest.raises(SourceError, match="is not the newest version any more"):
        source.files(first)


@pytest.mark.parametrize("done", [b"", b"one ", b"one two"])
def test_a_download_resumes(source: Source, registry: Path, tmp_path: Path, done: bytes) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "file").write_bytes(b"one two")
    (tmp_path / "made" / "empty").touch()
    publish(registry, tmp_path / "made")
    offer, part = newest(source), tmp_path / "part"
    assert {(file.path, file.size) for file in source.files(offer)} == {("file", 7), ("empty", 0)}
    part.write_bytes(done)
    source.download(offer, RemoteFile("file", 7), part, threading.Event())
    assert part.read_bytes() == b"one two"


def test_a_path_out_of_the_version_is_rejected(sync: Callable[[], Any], registry: Path) -> None:
    file = {"path": "../../secret", "size": 1, "sha256": "0" * 64}
    (registry / "index.json").write_text(json.dumps({"kcbert": {"version": "v1", "files": [file]}}))
    status, _, reason = sync()
    assert status == "rejected"
    assert "'../../secret' is not a valid path within a version" in reason


def test_a_wrong_place_stops_the_start(settings: SyncSettings, registry: Path) -> None:
    registry.rmdir()
    with pytest.raises(ValueError, match=r"BUNRIWIKI_SOURCES: .* is not a folder"):
        open_sources(settings)
