"""Fetching an offer: every file of it, verified, in a folder beside the store. What was fetched is not fetched again."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from loguru import logger
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_exponential_jitter,
)

from bunriwiki.artifacts.manifest import digest
from model_sync.errors import RejectedError, SourceError
from model_sync.sources import Offer, RemoteFile, Source

ROOM = 3  # times the missing bytes: the download, what is compiled from it, and its copy in the store
MB = 1_000_000


def fetch(
    source: Source,
    offer: Offer,
    downloads: Path,
    *,
    progress: Callable[[int, int], None],
    attempts: int = 5,
    wait_at_most: float = 10.0,
    stop: threading.Event | None = None,
) -> Path:
    """The folder below `downloads` with exactly the files of `offer`, each with the size and sha256 that the registry states.

    It goes on where an earlier call was cut off, also one of a process that is no more; what is there of other offers of the
    model is deleted. `progress` is told the bytes that are there and all that belong there, at first and after each file. Each
    file has `attempts`, with at most `wait_at_most` seconds between two.

    Raises SourceError when they are used up, or between two files once `stop` is set; RejectedError when a file is not what the
    registry states, after it was fetched again from its beginning, or when its path is impossible; OSError, with ENOSPC before
    anything is fetched where there is too little room.
    """
    stop = stop or threading.Event()
    retry = Retrying(
        retry=retry_if_exception_type(SourceError),
        stop=stop_after_attempt(attempts) | stop_when_event_set(stop),
        wait=wait_exponential_jitter(multiplier=0.5, max=wait_at_most),
        sleep=sleep_using_event(stop),
        before_sleep=_log,
        reraise=True,
    )
    folder = downloads / f"{offer.model}-{offer.digest[:16]}"
    _delete_other_offers(downloads, offer.model, folder)
    files = sorted(retry(source.files, offer), key=lambda file: file.path)
    _reject_impossible_paths(files)
    missing = [file for file in files if not (folder / file.path).is_file() or _wrong(folder / file.path, file)]
    _require_room(downloads, offer, sum(max(0, file.size - _size(_part(folder, file))) for file in missing))
    total = sum(file.size for file in files)
    done = total - sum(file.size for file in missing)
    progress(done, total)
    for file in missing:
        if stop.is_set():
            raise SourceError("stopped")
        _fetch_file(retry, source, offer, file, folder)
        done += file.size
        progress(done, total)
    _delete_strays(folder, files)
    return folder


def _fetch_file(retry: Retrying, source: Source, offer: Offer, file: RemoteFile, folder: Path) -> None:
    part = _part(folder, file)
    part.parent.mkdir(parents=True, exist_ok=True)
    wrong = None
    for _ in range(2):  # the second time from zero: what was wrong may be bytes of an earlier process
        retry(source.download, offer, file, part)
        wrong = _wrong(part, file)
        if wrong is None:
            part.replace(folder / file.path)
            return
        part.unlink()
        logger.warning("{} {}: {}", offer.model, offer.version, wrong)
    raise RejectedError(wrong)


def _wrong(path: Path, file: RemoteFile) -> str | None:
    """What differs at `path` from what the registry says of `file`."""
    size = path.stat().st_size
    says = "the registry" if file.sha256 is None else "latest_model.yaml"
    if size != file.size:
        return f"{file.path} has {size} bytes, {says} says {file.size}" + (" (cut short?)" if size < file.size else "")
    if file.sha256 is not None and (found := digest(path)) != file.sha256:
        return f"{file.path}: sha256 is {found}, {says} says {file.sha256}"
    return None


def _part(folder: Path, file: RemoteFile) -> Path:
    path = folder / file.path
    return path.with_name(f"{path.name}.part")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _require_room(downloads: Path, offer: Offer, missing: int) -> None:
    free = shutil.disk_usage(downloads).free
    if missing > 0 and free < ROOM * missing:
        message = f"{offer.model} {offer.version} needs {ROOM * missing / MB:.0f} MB, {free / MB:.0f} MB are free: make room"
        raise OSError(errno.ENOSPC, message, str(downloads))


def _reject_impossible_paths(files: Iterable[RemoteFile]) -> None:
    """A registry's paths are a stranger's: none may lead out of the folder, or be a file and a folder at once."""
    seen: set[str] = set()
    for file in files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts or "\0" in file.path or path.as_posix() != file.path or not path.name:
            raise RejectedError(f"{file.path!r} is no path within a version: publish it under another name")
        if file.path in seen or any(folder.as_posix() in seen for folder in path.parents):
            raise RejectedError(f"{file.path!r} is there twice, or lies below a file: publish it under another name")
        seen.add(file.path)


def _delete_other_offers(downloads: Path, model: str, folder: Path) -> None:
    downloads.mkdir(parents=True, exist_ok=True)
    for other in downloads.iterdir():
        if other.name.rpartition("-")[0] == model and other != folder:
            shutil.rmtree(other)


def _delete_strays(folder: Path, files: Iterable[RemoteFile]) -> None:
    """What a download that was cut off may have left beside the files."""
    wanted = {folder / file.path for file in files}
    for path in folder.rglob("*"):
        if path.is_file() and path not in wanted:
            path.unlink()


def _log(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    logger.warning("{}; attempt {} in {:.1f} s", error, state.attempt_number + 1, state.upcoming_sleep)
