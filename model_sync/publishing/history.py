"""The training history of a version: TensorBoard's event files, uploaded beside the version. It is no part of the version.

It is stored at `history/<model>/<version>/` below the prefix, outside of the version's folder: the importer never lists or
fetches it, and the version's digest and signature do not cover it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bunriwiki.artifacts.manifest import digest
from model_sync.errors import PublishError
from model_sync.publishing.bucket import Bucket

HISTORY = "history"
EVENT_FILE = "*tfevents*"  # TensorBoard reads files with such a name only
MAX_FILES = 100
MAX_BYTES = 32 * 2**20


def find_history(path: Path) -> dict[str, Path]:
    """The event files, by their path in the history, of the version at `path`: in its folder `history`, or in that beside it.

    Raises PublishError if they are too many or too large.
    """
    inside, beside = path / HISTORY, path.parent / HISTORY
    folder = inside if inside.is_dir() else beside
    found = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob(EVENT_FILE)) if file.is_file()}
    size = sum(file.stat().st_size for file in found.values())
    if len(found) > MAX_FILES or size > MAX_BYTES:
        raise PublishError(
            "rejected",
            f"The training history in {folder} has {len(found)} files, {size / 2**20:.0f} MB in all; at most {MAX_FILES} files "
            f"and {MAX_BYTES // 2**20} MB can be published: move what is not needed to another folder.",
        )
    return found


def upload_history(bucket: Bucket, model: str, version: str, files: Mapping[str, Path]) -> None:
    """Upload the event files that the bucket lacks or has with other content. Raises PublishError."""
    if not files:
        return
    folder = f"{HISTORY}/{model}/{version}"
    stored = {file.path: file.sha256 for file in bucket.list_files(folder)}
    for path, file in files.items():
        try:
            sha256 = digest(file)
        except OSError as error:
            raise PublishError("failed", f"{file} cannot be read: {error}.") from error
        if stored.get(path) != sha256:
            bucket.upload(file, f"{folder}/{path}", sha256, lambda _: None)
