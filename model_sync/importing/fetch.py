"""Fetches all files of an offer into a folder of the store, and verifies them. Complete files are not fetched again."""

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
from model_sync.sources import CANCELLED, Offer, RemoteFile, Source

DISK_FACTOR = 3  # times the missing bytes: the download, the compiled version, and its copy in the store
MB = 1_000_000


def fetch(
    source: Source,
    offer: Offer,
    downloads: Path,
    *,
    max_bytes: int,
    progress: Callable[[int, int], None],
    attempts: int = 5,
    max_wait: float = 10.0,
    stop: threading.Event | None = None,
) -> Path:
    """Fetch the files of `offer` into a folder below `downloads`, and return it.

    The folder contains exactly these files then, each with the size and sha256 that the registry states. A download that was
    interrupted is resumed, also after a restart; downloads of other offers of the model are deleted. `progress` is called with
    the bytes that are complete and the total bytes, at the start and after each file. Each file has `attempts`, with at most
    `max_wait` seconds between them.

    Raises SourceError if they are used up, or soon after `stop` is set; RejectedError if the files have more than `max_bytes`,
    before anything is fetched, or if a file differs from what the registry states even after a second download from zero, or
    has an invalid path; OSError, with ENOSPC before anything is fetched if too little disk space is free.
    """
    stop = stop or threading.Event()
    retry = Retrying(
        retry=retry_if_exception_type(SourceError),
        stop=stop_after_attempt(attempts) | stop_when_event_set(stop),
        wait=wait_exponential_jitter(multiplier=0.5, max=max_wait),
        sleep=sleep_using_event(stop),
        before_sleep=_log_retry,
        reraise=True,
    )
    folder = downloads / f"{offer.model}-{offer.digest[:16]}"
    _delete_other_offers(downloads, offer.model, folder)
    files = sorted(retry(source.files, offer), key=lambda file: file.path)
    _require_valid_paths(files)
    require_size(sum(file.size for file in files), max_bytes)
    missing = [file for file in files if not (folder / file.path).is_file() or _mismatch(folder / file.path, file)]
    _require_disk_space(downloads, offer, sum(max(0, file.size - _size(_part(folder, file))) for file in missing))
    total = sum(file.size for file in files)
    done = total - sum(file.size for file in missing)
    progress(done, total)
    for file in missing:
        if stop.is_set():
            raise SourceError(CANCELLED)
        _fetch_file(lambda file, part: retry(source.download, offer, file, part, stop), offer, file, folder)
        done += file.size
        progress(done, total)
    _delete_strays(folder, files)
    return folder


def require_size(size: int, max_bytes: int) -> None:
    """Raises RejectedError if a version of `size` bytes is too large."""
    if size > max_bytes:
        raise RejectedError(
            f"the version has {size / 2**20:.1f} MB, and BUNRIWIKI_MAX_VERSION_MB allows {max_bytes / 2**20:.1f}"
        )


def _fetch_file(download: Callable[[RemoteFile, Path], None], offer: Offer, file: RemoteFile, folder: Path) -> None:
    part = _part(folder, file)
    part.parent.mkdir(parents=True, exist_ok=True)
    mismatch = None
    for _ in range(2):  # the second time from zero: the part may hold wrong bytes of an earlier process
        download(file, part)
        mismatch = _mismatch(part, file)
        if mismatch is None:
            part.replace(folder / file.path)
            return
        part.unlink()
        logger.warning("{} {}: {}", offer.model, offer.version, mismatch)
    raise RejectedError(str(mismatch))


def _mismatch(path: Path, file: RemoteFile) -> str | None:
    """How the file at `path` differs from what the registry states; None if it does not."""
    size = path.stat().st_size
    origin = "the registry" if file.sha256 is None else "latest_model.yaml"
    if size != file.size:
        return f"{file.path} has {size} bytes, {origin} says {file.size}" + (" (truncated?)" if size < file.size else "")
    if file.sha256 is not None and (found := digest(path)) != file.sha256:
        return f"{file.path}: sha256 is {found}, {origin} says {file.sha256}"
    return None


def _part(folder: Path, file: RemoteFile) -> Path:
    path = folder / file.path
    return path.with_name(f"{path.name}.part")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _require_disk_space(downloads: Path, offer: Offer, missing: int) -> None:
    free = shutil.disk_usage(downloads).free
    if missing > 0 and free < DISK_FACTOR * missing:
        needed = DISK_FACTOR * missing
        message = f"{offer.model} {offer.version} needs {needed / MB:.0f} MB, {free / MB:.0f} MB are free: make room"
        raise OSError(errno.ENOSPC, message, str(downloads))


def _require_valid_paths(files: Iterable[RemoteFile]) -> None:
    """A registry's paths are untrusted: no path may lead out of the folder, or be both a file and a folder."""
    seen: set[str] = set()
    for file in files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts or "\0" in file.path or path.as_posix() != file.path or not path.name:
            raise RejectedError(f"{file.path!r} is not a valid path within a version: publish the file under another name")
        if file.path in seen or any(folder.as_posix() in seen for folder in path.parents):
            raise RejectedError(f"{file.path!r} is listed twice, or lies below a file: publish the file under another name")
        seen.add(file.path)


def _delete_other_offers(downloads: Path, model: str, folder: Path) -> None:
    downloads.mkdir(parents=True, exist_ok=True)
    for other in downloads.iterdir():
        if other.name.rpartition("-")[0] == model and other != folder:
            shutil.rmtree(other)


def _delete_strays(folder: Path, files: Iterable[RemoteFile]) -> None:
    """Delete other files, which an interrupted download may have left."""
    wanted = {folder / file.path for file in files}
    for path in folder.rglob("*"):
        if path.is_file() and path not in wanted:
            path.unlink()


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    logger.warning("{}; attempt {} in {:.1f} s", error, state.attempt_number + 1, state.upcoming_sleep)
