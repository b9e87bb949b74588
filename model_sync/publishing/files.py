"""The files of a version on disk: found, checked, and hashed before anything is uploaded."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from bunriwiki.artifacts.manifest import digest
from model_sync.errors import PublishError
from model_sync.importing.compilers.readable import require_readable
from model_sync.importing.published import Compiled, find_artifact
from model_sync.publishing import Progress
from model_sync.sources.latest_model import ListedFile
from model_sync.sources.local import SIGNATURE


def find_files(path: Path) -> dict[str, Path]:
    """The files to publish, by their path in the version: the file at `path`, or the files below it that are not hidden.

    Raises PublishError if there is none.
    """
    if path.is_file():
        return {path.name: path}
    if not path.is_dir():
        raise PublishError("failed", f"{path} does not exist.")
    found = {
        file.relative_to(path).as_posix(): file
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and not any(part.startswith(".") or part == "__pycache__" for part in file.relative_to(path).parts)
        and file != path / SIGNATURE  # the signature for a local source; latest_model.yaml has a field for it
    }
    if not found:
        raise PublishError("rejected", f"There is no file in {path}.")
    return found


def require_artifact(model: str, path: Path, files: Mapping[str, Path]) -> None:
    """Check that `files`, found at `path`, are one readable artifact of `model`.

    Raises RejectedError, DamagedArtifactError and OSError.
    """
    with tempfile.TemporaryDirectory() as folder:
        view = Path(folder)  # links to exactly the files that will be published
        for name, file in files.items():
            (view / name).parent.mkdir(parents=True, exist_ok=True)
            (view / name).symlink_to(file.resolve())
        artifact = find_artifact(model, view)
        # A manifest's files have to be inside its folder, which the targets of links are not.
        require_readable(model, Compiled(path) if isinstance(artifact, Compiled) else artifact)


def list_files(files: Mapping[str, Path], progress: Progress) -> tuple[ListedFile, ...]:
    """`files` with their sizes and digests, in the same order. Raises OSError."""
    total = sum(path.stat().st_size for path in files.values())
    listed, done = [], 0
    for name, path in files.items():
        progress("read", done, total)
        size = path.stat().st_size
        listed.append(ListedFile(path=name, size=size, sha256=digest(path)))
        done += size
    progress("read", done, total)
    return tuple(listed)
