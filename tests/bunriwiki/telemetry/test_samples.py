from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import bentoml._internal.monitoring.api as monitoring
import pytest

from bunriwiki.artifacts.inputs import Photo
from bunriwiki.telemetry import samples as samples_module
from bunriwiki.telemetry.sample_folder import SampleFolder
from bunriwiki.telemetry.samples import MAX_WAITING, Sample, Sampler
from bunriwiki.testing.waiting import wait_until

TEXT = Sample("kcbert", "v1", "a-request", [("none", 0.9)], "좋은 하루")
PHOTO = Sample("yolo", "v1", "another", [("can", 0.9), ("glass", 0.5)], Photo(b"a photo"))


@pytest.fixture(autouse=True)
def no_monitors() -> Iterator[None]:
    monitoring._MONITOR_INSTANCES.clear()  # BentoML keeps a monitor for each name
    yield
    monitoring._MONITOR_INSTANCES.clear()


def sampler(folder: Path, *, inputs: bool = False, chance: float = 0.5) -> Sampler:
    return Sampler(SampleFolder(folder, 1, 2**20), 0.2, inputs=inputs, chance=lambda: chance)


def written(folder: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/*.json"))]


def test_a_share_is_drawn(tmp_path: Path) -> None:
    assert [sampler(tmp_path, chance=chance).draws() for chance in (0.0, 0.19, 0.2, 0.9)] == [True, True, False, False]


def test_inputs_are_left_out_by_default(tmp_path: Path) -> None:
    found = sampler(tmp_path)
    for sample in (TEXT, PHOTO):
        found.keep(sample)
        found.write_next(0)
    assert written(tmp_path) == [
        {"request_id": "a-request", "version": "v1", "labels": ["none"], "scores": [0.9]},
        {"request_id": "another", "version": "v1", "labels": ["can", "glass"], "scores": [0.9, 0.5]},
    ]
    assert list(tmp_path.glob("*/*.photo")) == []


def test_inputs_are_kept_where_that_is_wanted(tmp_path: Path) -> None:
    found = sampler(tmp_path, inputs=True)
    for sample in (TEXT, PHOTO):
        found.keep(sample)
        found.write_next(0)
    assert [sample.get("text") for sample in written(tmp_path)] == ["좋은 하루", None]
    [photo] = tmp_path.glob("yolo/*.photo")
    assert photo.read_bytes() == b"a photo"


def test_samples_are_dropped_where_too_many_wait(tmp_path: Path) -> None:
    found = sampler(tmp_path)
    for _ in range(MAX_WAITING + 5):
        found.keep(TEXT)
    for _ in range(MAX_WAITING + 5):
        found.write_next(0)
    assert len(written(tmp_path)) == MAX_WAITING


def test_a_thread_writes_them_and_survives_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = threading.Event()
    failing.set()
    write = SampleFolder.write

    def writing(*arguments: object, **others: object) -> None:
        if failing.is_set():
            failing.clear()
            raise OSError("no space left on device")
        write(*arguments, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(SampleFolder, "write", writing)
    monkeypatch.setattr(samples_module, "PRUNE_SECONDS", 0.32)
    found = sampler(tmp_path)
    found.start()
    found.keep(TEXT)
    wait_until(lambda: not failing.is_set())
    found.keep(TEXT)
    wait_until(lambda: len(written(tmp_path)) == 1)
