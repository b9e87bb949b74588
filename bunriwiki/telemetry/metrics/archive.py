"""The values of all processes of a service, and the archive that the values of dead workers are merged into.

The folder of the values has a folder per role. A worker writes to the folder of its role only, and the supervisor alone writes
the archive:

    archive.json
    gateway/<process id>-<start>.values
    gateway/<process id>-<start>.records
    yolo/<process id>-<start>.values

The archive names the files that it contains. So if the supervisor dies after it has replaced the archive and before it has
deleted a merged file, that file is not counted twice, and at any instant a reader finds each count exactly once.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import msgspec
from loguru import logger

from bunriwiki.model_store.files import write_atomically
from bunriwiki.telemetry.metrics.loads import runner_keys
from bunriwiki.telemetry.metrics.record_file import read_records
from bunriwiki.telemetry.metrics.value_file import BrokenValuesError, read_values
from bunriwiki.telemetry.metrics.values import LIVE_SUM, MAX, RECORDS_SUFFIX, SUFFIX, Key
from bunriwiki.telemetry.metrics.versions import kept_versions, version_of

ARCHIVE = "archive.json"
TRIES = 20  # of a reading that a merge interrupts
MAX_FILE_BYTES = 64 * 2**20
MAX_RUNNER_BYTES = 2**20  # of a file that a sandboxed worker writes
MAX_RUNNER_FILES = 256  # of one model

Values = dict[str, float]  # by the text of a key


class Archive(msgspec.Struct):
    """The values of dead workers. `merged` are the files that it contains, as far as they may still exist."""

    merged: list[str] = []
    values: Values = {}

    @classmethod
    def read(cls, root: Path) -> Archive:
        """The archive of the folder `root`; an empty one if nothing was merged yet."""
        try:
            return msgspec.json.decode((root / ARCHIVE).read_bytes(), type=cls)
        except FileNotFoundError:
            return cls()


def read_all(root: Path) -> Values:
    """The values of all processes, dead and alive, summed up. May run at any time, in any process that may read `root`."""
    for _ in range(TRIES):
        with contextlib.suppress(FileNotFoundError):
            return _read_once(root)
    return _read_once(root, without_runners=True)  # one of them deletes its files, on purpose


def _read_once(root: Path, *, without_runners: bool = False) -> Values:
    """See `read_all`. Raises FileNotFoundError if a merge came between."""
    # In this order: a file that is merged after it was listed is either in the archive that is read now, or missing then.
    files = list(_files(root))
    archive = Archive.read(root)
    values = dict(archive.values)
    merged = set(archive.merged)
    for file in files:
        if _name(file) not in merged and not (without_runners and runner_keys(file.parent.name) is not None):
            _add(values, _read(file), live=True)
    return values


def merge_dead(root: Path, pid: int) -> None:
    """Move the values of a dead process into the archive. At most one process may do so at a time.

    Drops versions that have no series any more (see `versions.py`) and no values outside of the archive: either all counts of a
    version are dropped, or none. Raises OSError; then the values stay where they are.
    """
    files = list(_files(root))
    dead = [file for file in files if file.name.startswith(f"{pid}-")]
    if not dead:
        return
    before = Archive.read(root)
    values = dict(before.values)
    for file in dead:
        if _name(file) not in before.merged:
            _add(values, _read(file), live=False)
    leftovers = [root / name for name in before.merged]
    gone = {*dead, *leftovers}
    values = _without_old_versions(values, (_read(file) for file in files if file not in gone))
    archive = Archive(merged=[_name(file) for file in (*dead, *leftovers) if file.exists()], values=values)
    write_atomically(root / ARCHIVE, msgspec.json.encode(archive).decode(), durable=False)
    for file in gone:
        with contextlib.suppress(OSError):  # a runner may have put a folder there; the archive names it, so it is not read
            file.unlink()


def _without_old_versions(values: Values, others: Iterable[Mapping[str, float]]) -> Values:
    elsewhere: Values = {}
    for other in others:
        _add(elsewhere, other, live=True)
    kept = kept_versions({**values, **elsewhere}, time.time()) | {version_of(Key.parse(text)) for text in elsewhere} | {None}
    return {text: value for text, value in values.items() if version_of(Key.parse(text)) in kept}


def _files(root: Path) -> Iterator[Path]:
    for folder in sorted(root.iterdir()):
        if folder.is_dir():
            files = sorted(folder.glob(f"*{SUFFIX}"))
            if runner_keys(folder.name) is None:
                yield from (*files, *sorted(folder.glob(f"*{RECORDS_SUFFIX}")))
            elif len(files) > MAX_RUNNER_FILES:
                logger.error("{} has {} files, more than its workers can need: none is read", folder, len(files))
            else:
                yield from files


def _read(file: Path) -> Values:
    """The values in a worker's file; of a sandboxed worker those that it may have. A damaged file counts as empty.

    Raises FileNotFoundError and other OSErrors.
    """
    if file.suffix == RECORDS_SUFFIX:
        return read_records(file)
    allowed = runner_keys(file.parent.name)
    if allowed is None:
        try:
            return read_values(file, MAX_FILE_BYTES)
        except BrokenValuesError as error:
            logger.error("the metrics of a worker are not counted: {}", error)
            return {}
    try:
        values = read_values(file, MAX_RUNNER_BYTES)
    except FileNotFoundError:
        raise
    except (BrokenValuesError, OSError) as error:  # it may put anything there, a link or a folder, too
        logger.error("the metrics of a runner are not counted: {}", error)
        return {}
    return {text: value for text, value in values.items() if text in allowed and math.isfinite(value) and value >= 0}


def _name(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"


def _add(values: Values, more: Mapping[str, float], *, live: bool) -> None:
    for text, value in more.items():
        mode = _mode(text)
        if mode == MAX:
            values[text] = max(values.get(text, value), value)
        elif mode != LIVE_SUM or live:
            values[text] = values.get(text, 0.0) + value


@lru_cache(maxsize=2**15)
def _mode(text: str) -> str:
    return Key.parse(text).mode
