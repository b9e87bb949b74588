"""Versions in local or mounted folders: `<folder>/<version>/...`."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from model_sync.errors import SourceError
from model_sync.sources import CANCELLED, CHUNK, MAX_SIGNATURE_CHARACTERS, Offer, RemoteFile
from model_sync.sources.digests import digest_of

INCOMPLETE = ".incomplete"  # a version that contains a file of this name is still being copied
SIGNATURE = "signature"  # the file next to a version's files that holds its signature, and is not part of the version


class LocalSource:
    """A folder per model. The newest version is the subfolder that was modified last.

    Subfolders that are hidden, contain a file `.incomplete`, or contain no file are ignored.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = dict(folders)

    def newest(self, model: str) -> Offer | None:
        """The version modified last; among equals, the last by name. Raises SourceError."""
        if model not in self._folders:
            return None
        try:
            versions = sorted(self._folders[model].iterdir(), key=lambda folder: (folder.stat().st_mtime_ns, folder.name))
            for folder in reversed(versions):
                if folder.name.startswith(".") or not folder.is_dir() or (folder / INCOMPLETE).exists():
                    continue
                if files := _files(folder):
                    return Offer(model, folder.name, _digest(folder, files), str(folder), _signature(folder))
        except OSError as error:
            raise SourceError(f"the versions of {model} cannot be read: {error}") from error
        return None

    def files(self, offer: Offer) -> tuple[RemoteFile, ...]:
        """The files. Raises SourceError, also if they changed since `offer` was made."""
        folder = Path(offer.uri)
        try:
            files = _files(folder)
            digest = _digest(folder, files)
        except OSError as error:
            raise SourceError(f"{folder} cannot be read: {error}") from error
        if digest != offer.digest:
            raise SourceError(f"{folder} has changed since it was offered: the next sync imports the new content")
        return files

    def download(self, offer: Offer, file: RemoteFile, part: Path, stop: threading.Event) -> None:
        """Copy the whole file. Raises SourceError if it cannot be opened or once `stop` is set, and OSError."""
        path = Path(offer.uri) / file.path
        try:
            stream = path.open("rb")
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error}") from error
        with stream, part.open("wb") as copy:
            while chunk := stream.read(CHUNK):
                if stop.is_set():
                    raise SourceError(CANCELLED)
                copy.write(chunk)


def _files(folder: Path) -> tuple[RemoteFile, ...]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SIGNATURE)
    return tuple(RemoteFile(path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths)


def _digest(folder: Path, files: tuple[RemoteFile, ...]) -> str:
    return digest_of([[file.path, file.size, (folder / file.path).stat().st_mtime_ns] for file in files])


def _signature(folder: Path) -> str | None:
    path = folder / SIGNATURE
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        return stream.read(MAX_SIGNATURE_CHARACTERS + 1).decode(errors="replace")
