from __future__ import annotations

import errno
import hashlib
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from model_sync.errors import RejectedError, SourceError
from model_sync.importing.fetch import fetch
from model_sync.sources import Offer, RemoteFile

OFFER = Offer("yolo", "v1", "d" * 64, "fake://yolo/v1")
MB = 1_000_000


class FakeSource:
    """Offers `contents`, sends at most `cut_after` bytes per connection, and counts the bytes that it sent of each file."""

    def __init__(self, contents: dict[str, bytes], *, cut_after: int = 1000, digests: bool = True) -> None:
        self.contents = contents
        self.files_named = tuple(
            RemoteFile(path, len(data), hashlib.sha256(data).hexdigest() if digests else None)
            for path, data in contents.items()
        )
        self.cut_after = cut_after
        self.sent = dict.fromkeys(contents, 0)
        self.errors: list[Exception] = []

    def newest(self, model: str) -> Offer:
        return OFFER

    def files(self, offer: Offer) -> tuple[RemoteFile, ...]:
        self._fail()
        return self.files_named

    def download(self, offer: Offer, file: RemoteFile, part: Path, stop: threading.Event) -> None:
        self._fail()
        have = part.stat().st_size if part.exists() else 0
        data = self.contents[file.path][have : have + self.cut_after]
        with part.open("ab") as stream:
            stream.write(data)
        self.sent[file.path] += len(data)
        if have + len(data) < len(self.contents[file.path]):
            raise SourceError("the connection ended")

    def _fail(self) -> None:
        if self.errors:
            raise self.errors.pop(0)


class Caller:
    """Calls `fetch` into `downloads` without waiting, and records the calls of `progress`."""

    def __init__(self, downloads: Path) -> None:
        self.downloads = downloads
        self.progress: list[tuple[int, int]] = []

    def __call__(self, source: FakeSource, offer: Offer = OFFER, **more: Any) -> Path:
        self.progress.clear()
        return fetch(
            source,
            offer,
            self.downloads,
            progress=lambda *call: self.progress.append(call),
            **{"max_wait": 0, "max_bytes": 1000 * MB, **more},
        )


@pytest.fixture
def call(tmp_path: Path) -> Caller:
    return Caller(tmp_path / "downloads")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_files_are_fetched_and_reported(call: Caller) -> None:
    files = {"best.pt": b"weights", "data/names.txt": b"glass", "empty": b""}
    folder = call(FakeSource(files))
    assert folder == call.downloads / f"yolo-{'d' * 16}"
    assert contents(folder) == files
    assert call.progress == [(0, 12), (7, 12), (12, 12), (12, 12)]


def test_an_interrupted_download_is_resumed(call: Caller) -> None:
    source = FakeSource({"best.pt": b"0123456789"}, cut_after=3)
    assert contents(call(source)) == source.contents
    assert source.sent == {"best.pt": 10}


def test_after_the_last_attempt_the_next_call_resumes(call: Caller) -> None:
    source = FakeSource({"a.pt": b"small", "best.pt": b"0123456789" * 2}, cut_after=5)
    with pytest.raises(SourceError, match="the connection ended"):
        call(source, attempts=2)
    folder = call(source, attempts=2)
    assert contents(folder) == source.contents
    assert source.sent == {"a.pt": 5, "best.pt": 20}
    assert call.progress == [(5, 25), (25, 25)]


def test_complete_files_are_not_fetched_again(call: Caller) -> None:
    call(FakeSource({"best.pt": b"weights"}))
    source = FakeSource({"best.pt": b"weights"})
    call(source)
    assert source.sent == {"best.pt": 0}
    assert call.progress == [(7, 7)]


def test_a_file_that_was_damaged_on_disk_is_fetched_again(call: Caller) -> None:
    source = FakeSource({"best.pt": b"weights"})
    (call(source) / "best.pt").write_bytes(b"wEights")
    assert contents(call(source)) == source.contents


def test_wrong_bytes_of_an_earlier_process_are_discarded(call: Caller) -> None:
    source = FakeSource({"best.pt": b"weights"})
    part = call.downloads / f"yolo-{'d' * 16}" / "best.pt.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"junk")
    assert contents(call(source)) == source.contents


def test_a_wrong_digest_is_rejected_after_a_second_download(call: Caller) -> None:
    source = FakeSource({"best.pt": b"weights"})
    source.contents["best.pt"] = b"wEights"
    found, stated = hashlib.sha256(b"wEights").hexdigest(), hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(RejectedError, match=f"best.pt: sha256 is {found}, latest_model.yaml says {stated}"):
        call(source)
    assert source.sent == {"best.pt": 14}
    assert contents(call.downloads) == {}


@pytest.mark.parametrize(
    ("sent", "digests", "message"),
    [
        (b"weight", True, r"best.pt has 6 bytes, latest_model.yaml says 7 \(truncated\?\)"),
        (b"weight", False, r"best.pt has 6 bytes, the registry says 7 \(truncated\?\)"),
        (b"weights!", True, r"best.pt has 8 bytes, latest_model.yaml says 7$"),
    ],
)
def test_a_wrong_size_is_rejected(call: Caller, sent: bytes, digests: bool, message: str) -> None:
    source = FakeSource({"best.pt": b"weights"}, digests=digests)
    source.contents["best.pt"] = sent
    with pytest.raises(RejectedError, match=message):
        call(source)


def test_downloads_of_other_offers_of_the_model_are_deleted(call: Caller) -> None:
    old = call(FakeSource({"best.pt": b"old"}), Offer("yolo", "v0", "c" * 64, ""))
    other = call(FakeSource({"best.pt": b"other"}), Offer("kcbert", "v0", "c" * 64, ""))
    call(FakeSource({"best.pt": b"weights"}))
    assert not old.exists()
    assert other.exists()


def test_other_files_in_the_folder_are_deleted(call: Caller) -> None:
    source = FakeSource({"best.pt": b"weights"})
    (call(source) / "best.pt.part.mlflow").touch()
    assert contents(call(source)) == source.contents


def test_too_little_disk_space_is_an_error_before_anything_is_fetched(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    source = FakeSource({"best.pt": bytes(4 * MB)}, cut_after=4 * MB)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=12 * MB - 1))
    with pytest.raises(OSError, match="yolo v1 needs 12 MB, 12 MB are free") as caught:
        call(source)
    assert caught.value.errno == errno.ENOSPC
    assert source.sent == {"best.pt": 0}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=12 * MB))
    call(source)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    call(source)  # nothing is missing


def test_disk_space_is_required_for_missing_bytes_only(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    source = FakeSource({"best.pt": bytes(4 * MB)}, cut_after=3 * MB)
    with pytest.raises(SourceError):
        call(source, attempts=1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3 * MB))
    call(source)


@pytest.mark.parametrize("error", [RejectedError("unsigned"), OSError(errno.ENOSPC, "No space left on device")])
def test_other_errors_are_raised_without_a_retry(call: Caller, error: Exception) -> None:
    source = FakeSource({"best.pt": b"weights"})
    source.errors = [SourceError("busy"), error, SourceError("never reached")]
    with pytest.raises(type(error)):
        call(source)
    assert len(source.errors) == 1


@pytest.mark.parametrize("path", ["../best.pt", "/best.pt", "a/../b", "a//b", "./a", ".", "", "a\0b"])
def test_an_invalid_path_is_rejected(call: Caller, path: str) -> None:
    with pytest.raises(RejectedError, match="is not a valid path within a version"):
        call(FakeSource({path: b"weights"}))
    assert contents(call.downloads.parent) == {}


def test_a_path_cannot_be_a_file_and_a_folder(call: Caller) -> None:
    with pytest.raises(RejectedError, match="'a/b' is listed twice, or lies below a file"):
        call(FakeSource({"a/b": b"", "a": b""}))


def test_a_file_named_like_the_part_of_another_is_fetched(call: Caller) -> None:
    source = FakeSource({"a.part": b"one", "a": b"other", "a.part.part": b"third"}, cut_after=2)
    assert contents(call(source)) == source.contents


class StopAfterFirst(FakeSource):
    def __init__(self, stop: threading.Event, contents: dict[str, bytes], error: Callable[[], None]) -> None:
        super().__init__(contents)
        self._stop = stop
        self._error = error

    def download(self, offer: Offer, file: RemoteFile, part: Path, stop: threading.Event) -> None:
        super().download(offer, file, part, stop)
        self._stop.set()
        self._error()


def test_it_is_cancelled_between_two_files(call: Caller) -> None:
    stop = threading.Event()
    source = StopAfterFirst(stop, {"a": b"one", "b": b"two"}, lambda: None)
    with pytest.raises(SourceError, match="cancelled"):
        call(source, stop=stop)
    assert source.sent == {"a": 3, "b": 0}


def test_it_is_cancelled_instead_of_retrying(call: Caller) -> None:
    stop = threading.Event()

    def cut() -> None:
        raise SourceError("cut")

    source = StopAfterFirst(stop, {"a": b"one"}, cut)
    with pytest.raises(SourceError, match="cut"):
        call(source, stop=stop, max_wait=60)
    assert source.sent == {"a": 3}


def test_a_version_that_is_too_large_is_rejected_before_a_byte_is_fetched(call: Caller) -> None:
    source = FakeSource({"a": b"x" * 600, "b": b"y" * 600})
    with pytest.raises(RejectedError, match="BUNRIWIKI_MAX_VERSION_MB"):
        call(source, max_bytes=1199)
    assert sum(source.sent.values()) == 0
    call(source, max_bytes=1200)
