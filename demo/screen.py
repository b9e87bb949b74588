"""What the demo shows: a screen in a terminal, plain lines elsewhere."""

from __future__ import annotations

import re
import threading
import time
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bunriwiki.artifacts.manifest import MODELS
from demo.deployment import Deployment
from demo.status import ModelRow, load_metrics, model_rows

PER_SECOND = 4  # times that the screen is drawn
LOG_LINES = 3
KEPT_LINES = 15
TABLE_LINES = 9  # two workers and a head, and a line more for a long reason
REASON = 90  # characters
LINE = re.compile(r"^\[[^]]*\] - \[[^]]*\] \| \[(\w+)\] \| \[(.*)\]$")  # bunriwiki/telemetry/logs.py
SERVERS = "S3 is SeaweedFS, MLflow is MLflow; SQS is an emulator (moto_server)"
COLOURS = {
    "rejected": "bold red",
    "failed": "bold red",
    "unreachable": "yellow",
    "undecided": "yellow",
    "promoted": "green",
    "unchanged": "green",
}


class Screen:
    """Shows the current step, the state of `deployment` once that is set, and what has happened so far.

    `last_log` has the end of the sidecar's log after `keep_log`: the log itself is deleted with the deployment.
    """

    def __init__(self, console: Console, steps: int) -> None:
        self.deployment: Deployment | None = None
        self.last_log: list[str] = []
        self._console = console
        self._steps = steps
        self._step = 0
        self._title, self._hint = "", ""
        self._notes: list[str] = []
        self._began = time.monotonic()
        self._over = threading.Event()
        self._shown: dict[str, str] = {}
        self._live = Live(get_renderable=self._draw, console=console, screen=True, refresh_per_second=PER_SECOND)
        self._changes = threading.Thread(target=self._print_changes, daemon=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        else:
            self._changes.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        if self._console.is_terminal:
            self._live.stop()
            for note in self._notes:
                self._print(f"  {note}")
        else:
            self._changes.join()

    def step(self, title: str, hint: str) -> None:
        """Begin the next step."""
        self._step += 1
        self._title, self._hint = title, hint
        self._print_plain(f"\n{self._step}/{self._steps} {title}\n    {hint}")

    def hint(self, hint: str) -> None:
        """Show what is being done within the step."""
        self._hint = hint
        self._print_plain(f"    {hint}")

    def note(self, sentence: str) -> None:
        """Show that something happened as expected, from now on."""
        self._notes.append(f"✓ {sentence}")
        self._print_plain(f"  ✓ {sentence}")

    def keep_log(self) -> None:
        """Keep the end of the sidecar's log."""
        self.last_log = log_lines(self.deployment, KEPT_LINES) if self.deployment else []

    def _print_plain(self, text: str) -> None:
        if not self._console.is_terminal:
            self._print(text)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _print_changes(self) -> None:
        """Print a line for each model whose row has changed."""
        while not self._over.wait(1 / PER_SECOND):
            for model, row in self._rows().items():
                workers = row.workers.replace("\n", ", ")
                doing = row.doing.partition(" ")[0]  # without the percentage, which would be a line for each percent
                line = f"    {model:<9} serves {row.serving} (workers: {workers}); sidecar: {doing}; last sync: {row.status}"
                if line != self._shown.get(model):
                    self._shown[model] = line
                    self._print(f"{line}: {row.reason}" if row.reason else line)

    def _rows(self) -> dict[str, ModelRow]:
        return model_rows(self.deployment.sidecar) if self.deployment else {}

    def _draw(self) -> RenderableType:
        screen = Layout()
        screen.split_column(
            Layout(self._head(), size=4),
            Layout(self._table(), size=TABLE_LINES),
            Layout(self._load(), size=3),
            Layout(_panel(Text("\n".join(self._notes), no_wrap=True, overflow="ellipsis"), "so far"), ratio=1),
            Layout(self._log(), size=LOG_LINES + 2),
        )
        return screen

    def _head(self) -> RenderableType:
        seconds = int(time.monotonic() - self._began)
        line = Table.grid(expand=True)
        line.add_column()
        line.add_column(justify="right")
        title = Text(f"{self._step}/{self._steps}  {self._title}", style="bold cyan", no_wrap=True, overflow="ellipsis")
        line.add_row(title, Text(f"{seconds // 60}:{seconds % 60:02}", style="dim"))
        hint = Text(self._hint, no_wrap=True, overflow="ellipsis")
        return Panel(Group(line, hint), title="Bunriwiki model service", subtitle=SERVERS, border_style="cyan")

    def _table(self) -> RenderableType:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, expand=True, border_style="dim")
        table.add_column("model", style="bold", width=9)
        table.add_column("serves", width=8)
        table.add_column("workers", width=11)
        table.add_column("sidecar", width=14)
        table.add_column("status of the last sync", ratio=1)
        for model, row in (self._rows() or dict.fromkeys(MODELS, ModelRow())).items():
            working = row.doing not in ("-", "idle")
            status = Text(row.status, style=COLOURS.get(row.status.rpartition(" ")[2], ""))
            if row.reason:
                status.append(f"  {row.reason}", style="red")
            status.truncate(REASON, overflow="ellipsis")
            table.add_row(model, Text(row.serving, "bold green"), row.workers, Text(row.doing, "bold yellow" * working), status)
        return table

    def _load(self) -> RenderableType:
        metrics = load_metrics(self.deployment.load) if self.deployment else None
        text = Text("not yet", style="dim")
        if metrics:
            text = Text(
                f"{metrics.per_second:.0f} requests/s   p50 {1000 * metrics.p50:.0f} ms   p99 {1000 * metrics.p99:.0f} ms   "
                f"{metrics.answered} answered   "
            )
            text.append(f"{metrics.failed} failed", style="bold red" if metrics.failed else "bold green")
        return _panel(text, "load")

    def _log(self) -> RenderableType:
        lines = log_lines(self.deployment, LOG_LINES) if self.deployment else []
        text = Text("\n".join(lines), style="dim", no_wrap=True, overflow="ellipsis")
        return _panel(text, "log of the sidecar")


def _panel(text: Text, title: str) -> Panel:
    return Panel(text, title=title, title_align="left", border_style="dim")


def log_lines(deployment: Deployment, number: int) -> list[str]:
    """The last lines of the sidecar's log, without time and host."""
    try:
        text = deployment.sidecar.log()
    except FileNotFoundError:  # not yet, or no longer
        return []
    matches = [LINE.match(line) for line in text.splitlines()]
    return [f"{match[1]:<7} {match[2]}" for match in matches if match][-number:]
