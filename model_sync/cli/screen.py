"""The output: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from bunriwiki.model_store.sync_state import SyncState
from model_sync.cli.words import Words

FILE_WIDTH = 200  # characters per line of a table in a file
MB = 1_000_000
STYLES = {
    "ok": "green", "warn": "yellow", "fail": "bold red", "promoted": "green", "rejected": "red", "failed": "red",
    "undecided": "yellow", "unreachable": "yellow", "pinned": "cyan", "held": "cyan", "cancelled": "cyan",
}  # fmt: skip


class Screen:
    """Writes to standard output, and errors to standard error."""

    def __init__(self, words: Words, *, as_json: bool) -> None:
        self.words = words
        self.as_json = as_json
        terminal = sys.stdout.isatty()
        self._out = Console(
            file=sys.stdout,
            width=None if terminal else FILE_WIDTH,
            markup=False,
            highlight=False,
            emoji=False,
            soft_wrap=not terminal,
        )
        self._has_progress = terminal and not as_json

    def json(self, document: object) -> None:
        """Write one JSON document."""
        sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")

    def say(self, text: str, style: str = "") -> None:
        """Write a line for people."""
        self._out.print(Text(plain(text), style=style))

    def bare(self, text: str) -> None:
        """Write a line without wrapping it, so that it can be copied or redirected to a file."""
        sys.stdout.write(plain(text) + "\n")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
        """Write a table; `columns` are keys below `column.` in words.yaml."""
        table = Table(
            title=title or None, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False
        )
        for column in columns:
            table.add_column(self.words(f"column.{column}"), overflow="fold")
        for row in rows:
            texts = [plain(str(cell)) for cell in row]
            table.add_row(*(Text(text, style=STYLES.get(text.partition(" ")[0], "")) for text in texts))
        self._out.print(table)

    def fail(self, sentence: str, code: int) -> None:
        """Write why the command ends with exit code `code`."""
        if self.as_json:
            self.json({"error": {"exit": code, "message": sentence}})
        else:
            Console(file=sys.stderr, markup=False, highlight=False, emoji=False, soft_wrap=True).print(
                Text(plain(sentence), style=STYLES["fail"])
            )

    @contextmanager
    def transfer_progress(self) -> Iterator[Callable[[Literal["read", "upload"], int, int], None]]:
        """A progress bar of a transfer, on a terminal; takes the phase, the bytes done and all bytes."""
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._out, disable=not self._has_progress, transient=True) as progress:
            tasks: dict[str, TaskID] = {}

            def show(phase: Literal["read", "upload"], done: int, total: int) -> None:
                if phase not in tasks:
                    tasks[phase] = progress.add_task(self.words(f"progress.{phase}"), total=total)
                progress.update(tasks[phase], completed=done, total=total)

            yield show

    @contextmanager
    def sync_progress(self) -> Iterator[Callable[[SyncState], None]]:
        """A progress bar per model that is being synced, on a terminal."""
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[phase]}"))
        with Progress(*columns, console=self._out, disable=not self._has_progress, transient=True) as progress:
            tasks: dict[str, TaskID] = {}

            def show(state: SyncState) -> None:
                for model, sync in state.models.items():
                    if model not in tasks:
                        tasks[model] = progress.add_task(model, total=None, phase="")
                    total = 1.0 if sync.phase_share is not None else None
                    phase = sync.phase or self.words("progress.waiting")
                    progress.update(tasks[model], completed=sync.phase_share or 0.0, total=total, phase=phase)

            yield show


def plain(text: str) -> str:
    """`text` without control characters for the terminal: reasons may quote third-party files."""
    return "".join(character if character.isprintable() or character == "\n" else "�" for character in text)


def local_time(moment: datetime | None) -> str:
    """The time to the second in this machine's time zone; empty for None."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def megabytes(size: int) -> str:
    """A size in bytes as MB, with one decimal."""
    return f"{size / MB:.1f}"


def details(fields: Mapping[str, Any]) -> str:
    """The fields that are not None, as `a=1, b=2`."""
    return ", ".join(f"{name}={value}" for name, value in fields.items() if value is not None)
