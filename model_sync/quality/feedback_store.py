"""The feedback, in an SQLite database that only the sidecar opens.

In WAL mode with full synchronisation, what `add` has accepted survives a crash and a power cut, and a crash leaves no half of
it. A database that is damaged is put aside, and a new one begins.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from bunriwiki.web.tickets import Ticket
from model_sync.quality.accuracy import CALIBRATION_BINS, Rated, ScoreBin

MAX_ROWS = 500_000  # of known feedback, and of anonymous feedback; the oldest is deleted
MAX_USED = 2_000_000  # tickets that were used and have not expired
BUSY_SECONDS = 5.0  # of waiting for another process that has the database open, such as a backup
DAY = 86_400.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS feedback (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, model TEXT NOT NULL, version TEXT NOT NULL, known INTEGER NOT NULL,
    request_id TEXT NOT NULL, truth TEXT NOT NULL, correct INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS feedback_of_version ON feedback (model, version, known, at, correct);
CREATE INDEX IF NOT EXISTS feedback_of_request ON feedback (request_id);
CREATE TABLE IF NOT EXISTS named (
    feedback INTEGER NOT NULL REFERENCES feedback (id) ON DELETE CASCADE, label TEXT NOT NULL, score REAL NOT NULL,
    correct INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS named_in_feedback ON named (feedback);
CREATE TABLE IF NOT EXISTS used (nonce BLOB PRIMARY KEY, expires REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (
    model TEXT NOT NULL, version TEXT NOT NULL, known INTEGER NOT NULL, answers INTEGER NOT NULL,
    PRIMARY KEY (model, version, known)
) WITHOUT ROWID;
"""


class TicketUsedError(Exception):
    """Feedback with this ticket was given before."""


class TooManyTicketsError(Exception):
    """So many tickets were used that no more can be remembered until some expire."""


@dataclass(frozen=True, slots=True)
class VersionQuality:
    """What the feedback of one kind says of a version: since some time, or `day` of UTC (YYYY-MM-DD)."""

    model: str
    version: str
    known: bool
    rated: Rated
    bins: Sequence[ScoreBin] = ()
    day: str = ""


class FeedbackStore:
    """The database at `path`, which is created if needed. Safe to use from many threads; every method may raise sqlite3.Error.

    `now` returns the seconds since the epoch.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._connection = _open(path)
        except sqlite3.OperationalError:  # it is locked, or the folder cannot be written to: nothing is damaged
            raise
        except sqlite3.DatabaseError as error:
            aside = path.with_name(f"{path.name}.damaged-{int(now())}")
            logger.error("{} is damaged ({}); it is now {}, and a new database begins", path, error, aside.name)
            for suffix in ("", "-wal", "-shm"):
                beside = path.with_name(path.name + suffix)
                if beside.exists():
                    beside.rename(aside.with_name(aside.name + suffix))
            self._connection = _open(path)
        self._used = _count_used(self._connection)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def add(self, ticket: Ticket, truth: Sequence[str], *, known: bool) -> bool:
        """Keep the right labels for an answer; whether the answer was right. Raises TicketUsedError, TooManyTicketsError.

        An answer is right if it named exactly the labels `truth`.
        """
        right = set(truth)
        correct = {label for label, _ in ticket.labels} == right
        if self._used >= MAX_USED:
            raise TooManyTicketsError
        with self._changing() as change:
            try:
                change.execute("INSERT INTO used VALUES (?, ?)", (ticket.nonce, ticket.expires))
            except sqlite3.IntegrityError:
                raise TicketUsedError from None
            row = change.execute(
                "INSERT INTO feedback (at, model, version, known, request_id, truth, correct) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    self._now(), ticket.model, ticket.version, known, ticket.request_id,
                    json.dumps(sorted(right), ensure_ascii=False), correct,
                ),
            ).lastrowid  # fmt: skip
            change.executemany(
                "INSERT INTO named VALUES (?, ?, ?, ?)", [(row, label, score, label in right) for label, score in ticket.labels]
            )
            change.execute(
                "INSERT INTO totals VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET answers = answers + 1",
                (ticket.model, ticket.version, known),
            )
            self._used += 1
        return correct

    def rated(self, model: str, version: str, since: float) -> Rated:
        """The known feedback on a version that came after `since`."""
        with self._reading() as read:
            answers, correct = read.execute(
                "SELECT COUNT(*), TOTAL(correct) FROM feedback WHERE model = ? AND version = ? AND known = 1 AND at > ?",
                (model, version, since),
            ).fetchone()
        return Rated(answers, int(correct))

    def quality(self, since: float) -> list[VersionQuality]:
        """The quality of each version by the feedback that came after `since`, known and anonymous apart."""
        with self._reading() as read:
            rows = read.execute(
                "SELECT model, version, known, COUNT(*), TOTAL(correct) FROM feedback WHERE at > ? "
                "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
                (since,),
            ).fetchall()
            named = read.execute(
                "SELECT model, version, known, MIN(CAST(score * ? AS INTEGER), ?) AS bin, COUNT(*), TOTAL(score), "
                "TOTAL(named.correct) FROM named JOIN feedback ON feedback.id = named.feedback WHERE at > ? "
                "GROUP BY 1, 2, 3, 4",
                (CALIBRATION_BINS, CALIBRATION_BINS - 1, since),
            ).fetchall()
        bins = defaultdict(list)
        for model, version, known, _, count, scores, correct in named:
            bins[model, version, known].append(ScoreBin(count, scores, int(correct)))
        return [
            VersionQuality(model, version, bool(known), Rated(answers, int(correct)), bins[model, version, known])
            for model, version, known, answers, correct in rows
        ]

    def by_day(self) -> list[VersionQuality]:
        """The quality of each version for each day that has feedback, the oldest day first."""
        with self._reading() as read:
            rows = read.execute(
                "SELECT model, version, known, DATE(at, 'unixepoch'), COUNT(*), TOTAL(correct) FROM feedback "
                "GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
            ).fetchall()
        return [
            VersionQuality(model, version, bool(known), Rated(answers, int(correct)), day=day)
            for model, version, known, day, answers, correct in rows
        ]

    def totals(self) -> dict[tuple[str, str, bool], int]:
        """All feedback that was ever given, by model, version, and whether it was known."""
        with self._reading() as read:
            return {
                (model, version, bool(known)): answers
                for model, version, known, answers in read.execute("SELECT * FROM totals")
            }

    def forget(self, request_id: str) -> int:
        """Delete the feedback on the answers to a request from the database's files; how much there was.

        Its tickets stay used.
        """
        with self._changing() as change:
            deleted = change.execute("DELETE FROM feedback WHERE request_id = ?", (request_id,)).rowcount
        with self._reading() as read:
            read.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the write-ahead log has the deleted rows, too
        return deleted

    def prune(self, days: float) -> None:
        """Delete feedback that is older than `days` or beyond `MAX_ROWS`, and tickets that have expired."""
        with self._changing() as change:
            change.execute("DELETE FROM feedback WHERE at < ?", (self._now() - days * DAY,))
            for known in (0, 1):
                change.execute(
                    "DELETE FROM feedback WHERE known = ? AND id <= "
                    "(SELECT id FROM feedback WHERE known = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
                    (known, known, MAX_ROWS),
                )
            change.execute("DELETE FROM used WHERE expires < ?", (self._now(),))
            self._used = _count_used(change)

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            yield self._connection


def _count_used(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT COUNT(*) FROM used").fetchone()[0])


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted by request id must not stay in free pages
        with closing(connection.execute("PRAGMA quick_check")) as found:
            if found.fetchone() != ("ok",):
                raise sqlite3.DatabaseError("its check failed")
        connection.executescript(SCHEMA)
    except BaseException:
        connection.close()
        raise
    path.chmod(0o600)
    return connection
