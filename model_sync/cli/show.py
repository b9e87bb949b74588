"""Tables of the store's state, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from bunriwiki.model_store.history import Event
from bunriwiki.model_store.names import FALLBACK
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.status import StoredModelStatus, StoredVersion, StoreStatus
from model_sync.cli.screen import Screen, details, local_time, megabytes
from model_sync.cli.words import Words
from model_sync.rollout.state import Rollout
from model_sync.rollout.status import RolloutStatus
from model_sync.syncing.requests import Outcome

IN_DETAILS = (
    "generation",
    "previous",
    "source",
    "workers",
    "forced",
    "reason",
    "rollout",
)  # fields of an event without a column


def shown(version: str, words: Words) -> str:
    """A version's name for people: the fallback version is called so."""
    return words("status.fallback") if version == FALLBACK else version


def show_status(screen: Screen, status: StoreStatus) -> None:
    words = screen.words
    columns = ("model", "serving", "since", "previous", "preparing", "pinned", "held", "workers", "sync")
    screen.table(columns, [_model(model, screen) for model in status.models])
    versions = [_version(model, stored, screen) for model in status.models for stored in model.versions]
    if versions:
        screen.say("")
        screen.table(("model", "version", "size", "published", "state"), versions)
    quarantined = [entry for model in status.models for entry in model.quarantined]
    if quarantined:
        screen.say("")
        show_quarantine(screen, quarantined)
    workers = [
        (model.name, worker.name, worker.state, worker.serving or "", megabytes(worker.rss_bytes), details(worker.errors))
        for model in status.models
        for worker in model.workers
    ]
    if workers:
        screen.say("")
        screen.table(("model", "worker", "state", "serving", "memory", "errors"), workers)
    screen.say("")
    sidecar = status.sidecar
    if sidecar is None:
        screen.say(words("status.never"))
    elif sidecar.alive:
        screen.say(words("status.sidecar", pid=sidecar.pid, host=sidecar.host, since=local_time(sidecar.since)))
    else:
        screen.say(words("status.dead", pid=sidecar.pid, host=sidecar.host), "yellow")
    for model in status.models:
        if model.sync and model.sync.reason:
            screen.say(f"{model.name}: {model.sync.reason}")
    for problem in sidecar.problems if sidecar else ():
        screen.say(words("status.problem", problem=problem), "yellow")


def show_quarantine(screen: Screen, quarantined: Sequence[Quarantined]) -> None:
    screen.table(
        ("model", "version", "since", "reason"),
        [(entry.model, entry.version, local_time(entry.at), entry.reason) for entry in quarantined],
    )


def show_history(screen: Screen, events: Sequence[Event]) -> None:
    rows = [
        (
            local_time(event.at),
            event.kind,
            event.model,
            event.version or "",
            event.by or "",
            details(event.model_dump(include=set(IN_DETAILS))),
        )
        for event in events
    ]
    screen.table(("time", "event", "model", "version", "by", "details"), rows)


def show_outcomes(screen: Screen, outcomes: Mapping[str, Outcome]) -> None:
    rows = [(outcome.model, outcome.status, outcome.version or "", outcome.reason or "") for outcome in outcomes.values()]
    screen.table(("model", "status", "version", "reason"), rows)


def show_image_rollout(screen: Screen, status: RolloutStatus) -> None:
    words, rollout = screen.words, status.rollout
    if rollout is None:
        screen.say(words("rollout.none"))
    else:
        facts = {"number": rollout.number, "new": status.replaced, "wanted": rollout.wanted}
        screen.say(words(f"rollout.{rollout.phase}", image=rollout.new.name, old=rollout.old.name, **facts))
        if rollout.reason:
            screen.say(words("rollout.reason", reason=rollout.reason), "yellow")
    if status.paused:
        screen.say(words("rollout.paused"), "yellow")
    if status.waiting:
        screen.say(words("rollout.waiting", step=status.waiting), "yellow")
    if status.problem:
        screen.say(words("status.problem", problem=status.problem), "yellow")
    if not status.alive:
        screen.say(words("rollout.dead"), "yellow")
    if status.results:
        screen.say("")
        screen.table(("rollout", "image", "versions", "result", "time", "reason"), [_result(each) for each in status.results])


def _result(rollout: Rollout) -> tuple[object, ...]:
    versions = details(rollout.new.versions)
    return rollout.number, rollout.new.name, versions, rollout.phase, local_time(rollout.ended), rollout.reason or ""


def _model(model: StoredModelStatus, screen: Screen) -> tuple[str, ...]:
    answering = Counter(worker.serving or worker.state for worker in model.workers)
    sync = f"{model.sync.phase or model.sync.status or ''} {local_time(model.sync.synced_at)}".strip() if model.sync else ""
    return (
        model.name,
        shown(model.serving.version if model.serving else FALLBACK, screen.words),
        local_time(model.serving.since) if model.serving else "",
        shown(model.previous.version, screen.words) if model.previous else "",
        _preparing(model, screen.words),
        screen.words("status.yes") if model.pinned else "",
        ", ".join(model.held),
        ", ".join(f"{number} × {version}" for version, number in sorted(answering.items())),
        sync,
    )


def _preparing(model: StoredModelStatus, words: Words) -> str:
    """The version that is being prepared, with its share of the traffic, and whether it is paused."""
    if model.preparing is None:
        return words("status.paused", version=model.paused) if model.paused else ""
    version = shown(model.preparing.version, words)
    if model.canary:
        version += f" {model.canary.share:.0%}"
    return words("status.paused", version=version) if model.paused == model.preparing.version else version


def _version(model: StoredModelStatus, stored: StoredVersion, screen: Screen) -> tuple[str, ...]:
    targets = {"serving": model.serving, "previous": model.previous, "preparing": model.preparing}
    states = [name for name, target in targets.items() if target and target.version == stored.version]
    states += ["held"] if stored.version in model.held else []
    states += ["quarantined"] if any(entry.version == stored.version for entry in model.quarantined) else []
    return (
        model.name,
        stored.version,
        megabytes(stored.size_bytes),
        local_time(stored.published_at),
        ", ".join(screen.words(f"state.{state}") for state in states),
    )
