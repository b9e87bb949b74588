"""What is shown: tables for people, JSON for programs."""

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

WIDE = 200  # characters of a line that goes to a file: nobody sees its end otherwise
MB = 1_000_000
STYLES = {
    "ok": "green", "warn": "yellow", "fail": "bold red", "promoted": "green", "rejected": "red", "failed": "red",
    "unreachable": "yellow", "pinned": "cyan", "held": "cyan",
}  # fmt: skip


class Screen:
    """Standard output, and standard error for what went wrong."""

    def __init__(self, words: Words, *, as_json: bool) -> None:
        self.words = words
        self.as_json = as_json
        terminal = sys.stdout.isatty()
        self._out = Console(
            file=sys.stdout,
            width=None if terminal else WIDE,
            markup=False,
            highlight=False,
            emoji=False,
            soft_wrap=not terminal,
        )
        self._moves = terminal and not as_json

    def json(self, what: object) -> None:
        """One document, as programs read it."""
        sys.stdout.write(json.dumps(what, ensure_ascii=False, indent=2) + "\n")

    def say(self, text: str, style: str = "") -> None:
        """A line for people."""
        self._out.print(Text(plain(text), style=style))

    def bare(self, text: str) -> None:
        """A line to be copied, or to go to a file: never broken into two."""
        sys.stdout.write(plain(text) + "\n")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
        """A table whose headers are `columns`, as words.yaml has them."""
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
        """Why the command ends with `code`."""
        if self.as_json:
            self.json({"error": {"exit": code, "says": sentence}})
        else:
            Console(file=sys.stderr, markup=False, highlight=False, emoji=False, soft_wrap=True).print(
                Text(plain(sentence), style=STYLES["fail"])
            )

    @contextmanager
    def bytes_done(self) -> Iterator[Callable[[Literal["read", "upload"], int, int], None]]:
        """A bar of a transfer, while a terminal syncs."""
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._out, disable=not self._moves, transient=True) as progress:
            tasks: dict[str, TaskID] = {}

            def tell(phase: Literal["read", "upload"], done: int, total: int) -> None:
                if phase not in tasks:
                    tasks[phase] = progress.add_task(self.words(f"progress.{phase}"), total=total)
                progress.update(tasks[phase], completed=done, total=total)

            yield tell

    @contextmanager
    def syncs_done(self) -> Iterator[Callable[[SyncState], None]]:
        """A bar per model that is being looked at, while a terminal syncs."""
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[phase]}"))
        with Progress(*columns, console=self._out, disable=not self._moves, transient=True) as progress:
            tasks: dict[str, TaskID] = {}

            def tell(state: SyncState) -> None:
                for model, one in state.models.items():
                    if model not in tasks:
                        tasks[model] = progress.add_task(model, total=None, phase="")
                    total = 1.0 if one.phase_share is not None else None
                    phase = one.phase or self.words("progress.waiting")
                    progress.update(tasks[model], completed=one.phase_share or 0.0, total=total, phase=phase)

            yield tell


def plain(text: str) -> str:
    """`text` without what would steer the terminal: reasons may quote other people's files."""
    return "".join(one if one.isprintable() or one == "\n" else "�" for one in text)


def local_time(moment: datetime | None) -> str:
    """To the second, in this machine's time zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def megabytes(size: int) -> str:
    """A size in bytes as MB, to a tenth."""
    return f"{size / MB:.1f}"


def details(fields: Mapping[str, Any]) -> str:
    """`a=1, b=2` of what there is."""
    return ", ".join(f"{name}={value}" for name, value in fields.items() if value is not None)
