"""What one sees of the demo: one screen in a terminal, plain lines elsewhere."""

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
from demo.stage import Stage
from demo.status import StoreStatus, figures, standing

PER_SECOND = 4  # times that the screen is drawn
LOG_LINES = 3
KEPT_LINES = 15
TABLE_LINES = 9  # two workers and a head, and one for a long reason
REASON = 90  # characters
LINE = re.compile(r"^\[[^]]*\] - \[[^]]*\] \| \[(\w+)\] \| \[(.*)\]$")  # bunriwiki/telemetry/logs.py
PLACES = "S3 is SeaweedFS, MLflow is MLflow; SQS is an emulator (moto_server)"
COLOURS = {"rejected": "bold red", "failed": "bold red", "unreachable": "yellow", "promoted": "green", "unchanged": "green"}


class Screen:
    """Shows a step, what stands on `stage` once there is one, and what has happened so far.

    `last_log` has the log's end, once `keep_log` was called: the log itself is deleted with the stage.
    """

    def __init__(self, console: Console, steps: int) -> None:
        self.stage: Stage | None = None
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
        self._lines = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        else:
            self._lines.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        if self._console.is_terminal:
            self._live.stop()
            for note in self._notes:
                self._say(f"  {note}")
        else:
            self._lines.join()

    def step(self, title: str, hint: str) -> None:
        """The next step of the show begins."""
        self._step += 1
        self._title, self._hint = title, hint
        self._print(f"\n{self._step}/{self._steps} {title}\n    {hint}")

    def hint(self, hint: str) -> None:
        """What goes on within the step."""
        self._hint = hint
        self._print(f"    {hint}")

    def note(self, sentence: str) -> None:
        """Something happened as it should; it stays on the screen."""
        self._notes.append(f"✓ {sentence}")
        self._print(f"  ✓ {sentence}")

    def keep_log(self) -> None:
        """Keep the end of the sidecar's log."""
        self.last_log = log_lines(self.stage, KEPT_LINES) if self.stage else []

    def _print(self, text: str) -> None:
        if not self._console.is_terminal:
            self._say(text)

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _follow(self) -> None:
        """Say what changes, a line each."""
        while not self._over.wait(1 / PER_SECOND):
            for model, now in self._statuses().items():
                workers = now.workers.replace("\n", ", ")
                doing = now.doing.partition(" ")[0]  # each percent would be a line
                line = f"    {model:<9} serves {now.serving} (workers: {workers}); sidecar: {doing}; last look: {now.status}"
                if line != self._shown.get(model):
                    self._shown[model] = line
                    self._say(f"{line}: {now.reason}" if now.reason else line)

    def _statuses(self) -> dict[str, StoreStatus]:
        stage = self.stage
        return {model: standing(stage.sidecar, model) for model in MODELS} if stage else {}

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
        return Panel(Group(line, hint), title="Bunriwiki model service", subtitle=PLACES, border_style="cyan")

    def _table(self) -> RenderableType:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, expand=True, border_style="dim")
        table.add_column("model", style="bold", width=9)
        table.add_column("serves", width=8)
        table.add_column("workers", width=11)
        table.add_column("sidecar", width=14)
        table.add_column("status of the last look", ratio=1)
        for model, now in (self._statuses() or dict.fromkeys(MODELS, StoreStatus())).items():
            working = now.doing not in ("-", "idle")
            status = Text(now.status, style=COLOURS.get(now.status.rpartition(" ")[2], ""))
            if now.reason:
                status.append(f"  {now.reason}", style="red")
            status.truncate(REASON, overflow="ellipsis")
            table.add_row(model, Text(now.serving, "bold green"), now.workers, Text(now.doing, "bold yellow" * working), status)
        return table

    def _load(self) -> RenderableType:
        now = figures(self.stage.load) if self.stage else None
        text = Text("not yet", style="dim")
        if now:
            text = Text(
                f"{now.per_second:.0f} requests/s   p50 {1000 * now.p50:.0f} ms   p99 {1000 * now.p99:.0f} ms   "
                f"{now.answered} answered   "
            )
            text.append(f"{now.failed} failed", style="bold red" if now.failed else "bold green")
        return _panel(text, "load")

    def _log(self) -> RenderableType:
        lines = log_lines(self.stage, LOG_LINES) if self.stage else []
        text = Text("\n".join(lines), style="dim", no_wrap=True, overflow="ellipsis")
        return _panel(text, "log of the sidecar")


def _panel(text: Text, title: str) -> Panel:
    return Panel(text, title=title, title_align="left", border_style="dim")


def log_lines(stage: Stage, most: int) -> list[str]:
    """The last lines that the sidecar logged, without time and host."""
    try:
        text = stage.sidecar.log()
    except FileNotFoundError:  # not yet, or no longer
        return []
    found = [LINE.match(line) for line in text.splitlines()]
    return [f"{one[1]:<7} {one[2]}" for one in found if one][-most:]
