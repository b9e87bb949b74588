"""Runs the commands in processes that die at one step after the other, and prints a line of JSON about what each one left.

python -m tests.model_sync.admin.dying <store> <scratch>

In the store v1 of yolo serves, and v2 is on disk. A step is a write that reaches the disk. The process that runs this has no
other thread, so that it may fork.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bunriwiki.model_store.generation import Canary, Target
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.names import FALLBACK
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.writer import StoreWriter, open_writer
from bunriwiki.testing.waiting import wait_until
from model_sync.admin import commands as commands_module
from model_sync.admin.commands import Commands
from model_sync.importing.cancellation import Cancellation
from model_sync.live import canary
from model_sync.live.analysis import LiveLimits
from model_sync.live.canary import CanaryRollout
from model_sync.stop_event import StopEvent
from model_sync.syncing.report import Report

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

DIED = 9
SHARE = Canary(share=0.1)
LIMITS = LiveLimits(requests=50, errors=5, latency=2, stuck=30, differences=20)


@dataclass
class Case:
    """A command, and what comes before it: a generator that yields the commands."""

    before: Callable[[StoreWriter], Iterator[Commands]]
    run: Callable[[Commands], object]


def plain(writer: StoreWriter) -> Iterator[Commands]:
    yield Commands(writer)


def with_canary(writer: StoreWriter) -> Iterator[Commands]:
    target = Target(version="v2", since=datetime.now(UTC), source="a test", by="poll")
    writer.change(lambda old: old.prepare("yolo", target).start_canary("yolo", SHARE))
    yield Commands(writer)


def with_paused_canary(writer: StoreWriter) -> Iterator[Commands]:
    writer.change(lambda old: old.pause("yolo", "v2"))
    yield from with_canary(writer)


def in_sync(writer: StoreWriter) -> Iterator[Commands]:
    """The canary is paused, and the thread of a sync watches it."""
    canary.POLL_SECONDS = 0.01
    writer.change(lambda old: old.pause("yolo", "v2"))
    report = Report(writer.layout.sync, {"yolo": "a test"})
    rollout = CanaryRollout("yolo", writer, report, LIMITS, canary=SHARE, seconds=60, stopping=threading.Event())

    def sync() -> None:
        promote(writer, "yolo", "v2", "a test", "poll", before_activation=rollout.start_canary, lifts_holds=True)

    threading.Thread(target=sync, daemon=True).start()
    wait_until(lambda: writer.generations().of("yolo").canary)
    yield Commands(writer)


def while_importing(writer: StoreWriter) -> Iterator[Commands]:
    commands_module.CANCEL_SECONDS = 0.0
    cancellation = Cancellation(StopEvent())
    with cancellation.importing("v3", "d3"):
        yield Commands(writer, cancellations={"yolo": cancellation})


CASES = {
    "rollback": Case(plain, lambda commands: commands.rollback("yolo", FALLBACK)),
    "pause": Case(with_canary, lambda commands: commands.pause("yolo")),
    "resume": Case(with_paused_canary, lambda commands: commands.resume("yolo")),
    "abort": Case(with_paused_canary, lambda commands: commands.abort("yolo")),
    "promote": Case(in_sync, lambda commands: commands.promote("yolo")),
    "cancel": Case(while_importing, lambda commands: commands.cancel("yolo")),
}


def die_at(step: int) -> None:
    """Die instead of taking this step, counted from now."""
    steps, sync = itertools.count(), os.fsync

    def counted(fd: FileDescriptorLike) -> None:
        if next(steps) == step:
            os._exit(DIED)
        sync(fd)

    os.fsync = counted


def run_and_die(store: Path, case: Case, step: int) -> NoReturn:
    """Run the command in this process, up to the step at which it dies."""
    try:
        with open_writer(store, "the one that dies") as writer, contextmanager(case.before)(writer) as commands:
            die_at(step)
            case.run(commands)
            os._exit(0)
    finally:
        os._exit(1)


def left_by(store: Path, case: Case, step: int) -> dict[str, object]:
    child = os.fork()
    if not child:
        run_and_die(store, case, step)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with open_writer(store, "the next one") as writer:  # it recovers the store
        now = writer.generations().of("yolo")
    return {
        "code": code,
        "serving": now.serving.version if now.serving else None,
        "held": now.held,
        "paused": now.paused,
        "cancelled": now.cancelled.digest if now.cancelled else None,
        "preparing": now.preparing is not None or now.canary is not None,
    }


def main(store: Path, scratch: Path) -> None:
    for name, case in CASES.items():
        for step in itertools.count():
            copy = Layout(scratch / f"{name}-{step}").root
            shutil.copytree(store, copy)
            left = left_by(copy, case, step)
            sys.stdout.write(json.dumps({"command": name, "step": step, **left}) + "\n")
            if left["code"] != DIED:
                break


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
