"""Who carries out a command: the running sidecar, or this process where none runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from bunriwiki.model_store.generation import GenerationError
from bunriwiki.model_store.history import Event
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.lock import StoreLockedError
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.writer import open_writer
from model_sync.admin.commands import Collected, Commands, Pinned, RolledBack, Unpinned
from model_sync.admin.status import SHOWN, StoreReader, StoreStatus
from model_sync.cli.exits import CliError, Exit
from model_sync.cli.remote import Remote, Tell
from model_sync.cli.settings import CliSettings, is_here, read_settings
from model_sync.cli.waiting import while_it_runs
from model_sync.cli.words import Words
from model_sync.syncing.requests import Outcome


class Reader(Protocol):
    """Whoever can be asked how things are (see `standing.StoreReader`). Raises CliError and CommandError."""

    def status(self) -> StoreStatus: ...

    def history(self, model: str | None = None, last: int = SHOWN) -> list[Event]: ...


class Operator(Reader, Protocol):
    """Whoever can change something (see `commands.Commands`). Raises CliError and CommandError."""

    def rollback(self, model: str, version: str | None = None) -> RolledBack: ...

    def pin(self, model: str, version: str | None = None) -> Pinned: ...

    def unpin(self, model: str) -> Unpinned: ...

    def quarantine(self, model: str, version: str, reason: str) -> Quarantined: ...

    def release(self, model: str, version: str) -> None: ...

    def gc(self) -> Collected: ...

    def sync(self, models: Sequence[str] | None, *, force: bool, wait: bool, tell: Tell) -> dict[str, Outcome] | None:
        """Look at the registries of `models`, or of all; the outcomes, or None where nobody waits for them.

        `tell` is told now and then how far it is.
        """


class Local(Commands):
    """The commands on a store of which this process holds the lock."""

    def sync(
        self,
        models: Sequence[str] | None,
        *,
        force: bool,
        wait: bool,  # noqa: ARG002 (it waits in any case)
        tell: Tell,
    ) -> dict[str, Outcome] | None:
        """One look by this process itself, which waits for it in any case."""
        # Here, because only this needs them: all libraries of the sidecar.
        from model_sync.registries import describe  # noqa: PLC0415
        from model_sync.settings import SyncSettings  # noqa: PLC0415
        from model_sync.sidecar import reconcilers  # noqa: PLC0415
        from model_sync.syncing.report import Report  # noqa: PLC0415

        settings = read_settings(SyncSettings)
        places = {model: describe(choice, settings) for model, choice in settings.choices.items()}
        report = Report(self.layout.staging / "sync.json", places)  # in sync.json it would look like a sidecar that ended
        stopping = threading.Event()
        try:
            found = reconcilers(settings, self._writer, report, stopping)
        except (OSError, ValueError) as error:
            raise CliError(Exit.USAGE, str(error)) from error
        return {
            one.model: while_it_runs(partial(one.sync, "operator", force=force), lambda: tell(report.state()), stopping)
            for one in found
            if models is None or one.model in models
        }


@contextmanager
def reader(settings: CliSettings, words: Words) -> Iterator[Reader]:
    """Whom to ask: the sidecar, or else the store itself, which needs no lock for that."""
    with _sidecar(settings, words) as remote:
        yield remote or StoreReader(Layout(settings.model_store))


@contextmanager
def operator(settings: CliSettings, words: Words, *, creates: bool = False) -> Iterator[Operator]:
    """Who is to change something. Only for `creates` a store is made where there is none.

    Raises CliError when no sidecar answers and the store cannot be taken over either.
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
            raise CliError(Exit.UNREACHABLE, words("store.locked", error=error, url=settings.url or "-")) from error
        except (GenerationError, OSError) as error:
            raise CliError(Exit.FAILED, words("store.broken", error=error)) from error


@contextmanager
def _sidecar(settings: CliSettings, words: Words) -> Iterator[Remote | None]:
    """The sidecar, if one answers; None where none does on this machine. Raises CliError for any other state."""
    url = settings.url
    if url is None:
        yield None
        return
    remote = Remote(url, next(iter(settings.admin_tokens), ""), words)
    try:
        found = remote.probe()
        if found == "other":
            raise CliError(Exit.UNREACHABLE, words("sidecar.other", url=url))
        if found != "sidecar" and not is_here(url):
            raise CliError(Exit.UNREACHABLE, words("sidecar.nothing", url=url))
        yield remote if found == "sidecar" else None
    finally:
        remote.close()
