"""What executes a command: the running sidecar, or this process if no sidecar is running."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from bunriwiki.model_store.generation import GenerationError
from bunriwiki.model_store.history import Event
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.lock import StoreLockedError
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.status import StoreStatus
from bunriwiki.model_store.writer import open_writer
from bunriwiki.settings import CommonSettings
from bunriwiki.web.tls import trusting
from model_sync.admin.commands import Commands
from model_sync.admin.image_rollout_commands import ImageRolloutCommand
from model_sync.admin.results import (
    Aborted,
    Cancelled,
    Collected,
    Paused,
    Pinned,
    Promoted,
    Resumed,
    RolledBack,
    Unpinned,
)
from model_sync.admin.status import SHOWN, StoreReader
from model_sync.cli.exits import CliError, Exit
from model_sync.cli.remote import Remote, SyncProgress
from model_sync.cli.settings import is_here, read_settings
from model_sync.cli.waiting import run_with_progress
from model_sync.cli.words import Words
from model_sync.rollout.status import RolloutStatus
from model_sync.syncing.requests import Outcome


class Reader(Protocol):
    """Reads the state of the store, like `admin.status.StoreReader`. Raises CliError and CommandError."""

    def status(self) -> StoreStatus: ...

    def history(self, model: str | None = None, last: int = SHOWN) -> list[Event]: ...

    def image_rollout_status(self) -> RolloutStatus: ...


class Operator(Reader, Protocol):
    """Executes commands, like `admin.commands.Commands`. Raises CliError and CommandError."""

    def rollback(self, model: str, version: str | None = None) -> RolledBack: ...

    def pin(self, model: str, version: str | None = None) -> Pinned: ...

    def unpin(self, model: str) -> Unpinned: ...

    def pause(self, model: str) -> Paused: ...

    def resume(self, model: str) -> Resumed: ...

    def promote(self, model: str) -> Promoted: ...

    def abort(self, model: str) -> Aborted: ...

    def cancel(self, model: str) -> Cancelled: ...

    def quarantine(self, model: str, version: str, reason: str) -> Quarantined: ...

    def release(self, model: str, version: str) -> None: ...

    def gc(self) -> Collected: ...

    def image_rollout(self, command: ImageRolloutCommand) -> RolloutStatus: ...

    def sync(
        self, models: Sequence[str] | None, *, force: bool, wait: bool, progress: SyncProgress
    ) -> dict[str, Outcome] | None:
        """Sync `models`, or all models, with their registries. Returns the outcomes, or None without `wait`."""


class Local(Commands):
    """The commands on a store whose lock this process holds."""

    def sync(
        self,
        models: Sequence[str] | None,
        *,
        force: bool,
        wait: bool,  # noqa: ARG002 (this process has to wait)
        progress: SyncProgress,
    ) -> dict[str, Outcome] | None:
        """A sync in this process, which always waits for it."""
        # Imported here: only this command needs all libraries of the sidecar.
        from model_sync.registries import describe  # noqa: PLC0415
        from model_sync.settings import SyncSettings  # noqa: PLC0415
        from model_sync.sidecar import reconcilers  # noqa: PLC0415
        from model_sync.stop_event import StopEvent  # noqa: PLC0415
        from model_sync.syncing.report import Report  # noqa: PLC0415

        settings = read_settings(SyncSettings)
        places = {model: describe(choice, settings) for model, choice in settings.choices.items()}
        report = Report(self.layout.staging / "sync.json", places)  # the store's sync.json would look like a sidecar that ended
        stopping = StopEvent()
        try:
            found = reconcilers(settings, self._writer, report, stopping)
        except (OSError, ValueError) as error:
            raise CliError(Exit.USAGE, str(error)) from error
        return {
            reconciler.model: run_with_progress(
                partial(reconciler.sync, "operator", force=force), lambda: progress(report.state()), stopping
            )
            for reconciler in found
            if models is None or reconciler.model in models
        }


@contextmanager
def reader(settings: CommonSettings, words: Words) -> Iterator[Reader]:
    """A reader: the sidecar, or else the store itself, which can be read without the lock."""
    with _sidecar(settings, words) as remote:
        yield remote or StoreReader(Layout(settings.model_store))


@contextmanager
def operator(settings: CommonSettings, words: Words, *, creates: bool = False) -> Iterator[Operator]:
    """An operator: the sidecar, or else this process. With `creates`, a missing store is created.

    Raises CliError if no sidecar answers and this process cannot lock or use the store.
    """
    with _sidecar(settings, words) as remote:
        if remote:
            yield remote
            return
        store = settings.model_store
        if not creates and not store.is_dir():
            raise CliError(Exit.USAGE, words("store.none", store=store))
        try:
            with open_writer(store, "the command line") as writer:
                yield Local(writer)
        except StoreLockedError as error:
            raise CliError(Exit.UNREACHABLE, words("store.locked", error=error, url=settings.sidecar_url or "-")) from error
        except (GenerationError, OSError) as error:
            raise CliError(Exit.FAILED, words("store.broken", error=error)) from error


@contextmanager
def _sidecar(settings: CommonSettings, words: Words) -> Iterator[Remote | None]:
    """The sidecar; None if nothing answers on this machine. Raises CliError in any other case."""
    url = settings.sidecar_url
    if url is None:
        yield None
        return
    remote = Remote(url, next(iter(settings.admin_tokens), ""), words, verify=trusting(settings.sync_certificate))
    try:
        found = remote.probe()
        if found == "other":
            raise CliError(Exit.UNREACHABLE, words("sidecar.other", url=url))
        if found != "sidecar" and not is_here(url):
            raise CliError(Exit.UNREACHABLE, words("sidecar.nothing", url=url))
        yield remote if found == "sidecar" else None
    finally:
        remote.close()
