"""How the store's state looks to people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from bunriwiki.model_store.history import Event
from bunriwiki.model_store.quarantine import Quarantined
from model_sync.admin.status import ModelStatus, StoreStatus
from model_sync.cli.screen import Screen, details, local_time, megabytes
from model_sync.syncing.requests import Outcome

IN_MORE = ("generation", "previous", "source", "workers", "forced", "reason")  # what a line of the history has no column for


def show_status(screen: Screen, status: StoreStatus) -> None:
    words = screen.words
    columns = ("model", "serving", "since", "previous", "preparing", "pinned", "held", "workers", "sync")
    screen.table(columns, [_model(one, screen) for one in status.models])
    versions = [_version(one, number, screen) for one in status.models for number in range(len(one.versions))]
    if versions:
        screen.say("")
        screen.table(("model", "version", "size", "published", "state"), versions)
    quarantined = [one for model in status.models for one in model.quarantined]
    if quarantined:
        screen.say("")
        show_quarantine(screen, quarantined)
    workers = [
        (one.model, worker.worker, worker.state, worker.serving or "", megabytes(worker.rss), details(worker.errors))
        for one in status.models
        for worker in one.workers
    ]
    if workers:
        screen.say("")
        screen.table(("model", "worker", "state", "serving", "memory", "more"), workers)
    screen.say("")
    sidecar = status.sidecar
    if sidecar is None:
        screen.say(words("status.never"))
    elif sidecar.alive:
        screen.say(words("status.sidecar", pid=sidecar.pid, host=sidecar.host, since=local_time(sidecar.since)))
    else:
        screen.say(words("status.dead", pid=sidecar.pid, host=sidecar.host), "yellow")
    for one in status.models:
        if one.sync and one.sync.reason:
            screen.say(f"{one.model}: {one.sync.reason}")
    for problem in sidecar.problems if sidecar else ():
        screen.say(words("status.problem", problem=problem), "yellow")


def show_quarantine(screen: Screen, quarantined: Sequence[Quarantined]) -> None:
    screen.table(
        ("model", "version", "since", "reason"),
        [(one.model, one.version, local_time(one.at), one.reason) for one in quarantined],
    )


def show_history(screen: Screen, events: Sequence[Event]) -> None:
    rows = [
        (
            local_time(one.at),
            one.kind,
            one.model,
            one.version or "",
            one.by or "",
            details(one.model_dump(include=set(IN_MORE))),
        )
        for one in events
    ]
    screen.table(("time", "what", "model", "version", "by", "more"), rows)


def show_outcomes(screen: Screen, outcomes: Mapping[str, Outcome]) -> None:
    rows = [(one.model, one.status, one.version or "", one.reason or "") for one in outcomes.values()]
    screen.table(("model", "status", "version", "reason"), rows)


def _model(one: ModelStatus, screen: Screen) -> tuple[str, ...]:
    answering = Counter(worker.serving or worker.state for worker in one.workers)
    look = f"{one.sync.phase or one.sync.status or ''} {local_time(one.sync.synced_at)}".strip() if one.sync else ""
    return (
        one.model,
        one.serving.version if one.serving else screen.words("status.fallback"),
        local_time(one.serving.since) if one.serving else "",
        one.previous.version if one.previous else "",
        one.preparing.version if one.preparing else "",
        screen.words("status.yes") if one.pinned else "",
        ", ".join(one.held),
        ", ".join(f"{number} × {version}" for version, number in sorted(answering.items())),
        look,
    )


def _version(one: ModelStatus, number: int, screen: Screen) -> tuple[str, ...]:
    stored = one.versions[number]
    targets = {"serving": one.serving, "previous": one.previous, "preparing": one.preparing}
    states = [name for name, target in targets.items() if target and target.version == stored.version]
    states += ["held"] if stored.version in one.held else []
    states += ["quarantined"] if any(bad.version == stored.version for bad in one.quarantined) else []
    return (
        one.model,
        stored.version,
        megabytes(stored.bytes),
        local_time(stored.published),
        ", ".join(screen.words(f"state.{state}") for state in states),
    )
