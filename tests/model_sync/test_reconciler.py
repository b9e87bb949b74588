from __future__ import annotations

import contextlib
import dataclasses
import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.model_store.generation import Target
from bunriwiki.model_store.history import Event
from bunriwiki.model_store.names import FALLBACK
from bunriwiki.model_store.promotion import CannotLoadError, FailsLiveError, promote
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.writer import StoreWriter
from bunriwiki.testing.paths import MODELS
from bunriwiki.testing.versions import BUNDLED_VERSION
from bunriwiki.testing.waiting import wait_until
from model_sync.admin.commands import Commands
from model_sync.counters import SignatureCounters
from model_sync.envelope import Validity
from model_sync.errors import (
    ImportCancelledError,
    ImportCrashedError,
    ImportEnvironmentError,
    RejectedError,
    SignatureError,
    SourceError,
    SyncCancelledError,
    UndecidedError,
)
from model_sync.importing.cancellation import Cancellation
from model_sync.importing.importer import Baseline, Importer
from model_sync.importing.postponed import Postponed
from model_sync.reconciler import Reconciler
from model_sync.signatures import Signatures, SignedFile, sign
from model_sync.sources import RemoteFile
from model_sync.stop_event import StopEvent
from model_sync.syncing.report import Report
from model_sync.telemetry.metrics import OUTCOMES
from tests.model_sync.fakes import URI, FakeImporter, FakeSource, offer

MakeVersion = Callable[..., Path]


def crashed() -> ImportEnvironmentError:
    """As the importer raises it."""
    error = ImportEnvironmentError("it died; the import is retried")
    error.__cause__ = ImportCrashedError("it died")
    return error


class Setup:
    """A reconciler of kcbert with a store, a fake registry and a fake importer."""

    def __init__(self, writer: StoreWriter, make_version: MakeVersion) -> None:
        self.make_version = make_version
        self.writer = writer
        self.source = FakeSource()
        self.importer = FakeImporter({})
        self.cancellation = Cancellation(StopEvent())
        self.operator: threading.Thread | None = None
        self.report = Report(writer.layout.sync, {"kcbert": URI})
        self.reconciler = Reconciler(
            "kcbert", self.source, writer, cast("Importer", self.importer), self.report, MODELS / "kcbert", self.cancellation
        )

    def offers(self, version: str, digest: str = "d1", *, stored: str | None = None) -> None:
        self.source.offers["kcbert"] = offer(version, digest)
        name = stored or version
        self.importer.made[name] = self.make_version("kcbert", name, digest)

    def sync(self, **options: Any) -> tuple[str, str | None, str | None]:
        outcome = self.reconciler.sync(options.pop("by", "poll"), force=options.pop("force", False))
        return outcome.status, outcome.version, outcome.reason

    @property
    def serving(self) -> str | None:
        serving = self.writer.generations().of("kcbert").serving
        return serving.version if serving else None

    def events(self, kind: str) -> list[Event]:
        return [event for event in self.writer.history.read("kcbert") if event.kind == kind]


@pytest.fixture
def setup(writer: StoreWriter, make_version: MakeVersion) -> Iterator[Setup]:
    setup = Setup(writer, make_version)
    yield setup
    if setup.operator:
        setup.operator.join()


def test_a_new_version_is_imported_and_serves(setup: Setup) -> None:
    setup.offers("v1")
    assert setup.sync(by="sqs") == ("promoted", "v1", None)
    assert setup.serving == "v1"
    [published] = setup.events("published")
    assert (published.source, published.by, published.forced) == (f"{URI}/v1", "sqs", None)
    assert setup.importer.brought == [("v1", Baseline(MODELS / "kcbert", chose=False))]


def test_a_version_that_serves_is_not_imported_again(setup: Setup) -> None:
    setup.offers("v1")
    setup.sync()
    assert [setup.sync() for _ in range(3)] == [("unchanged", "v1", None)] * 3
    assert len(setup.importer.brought) == 1


def test_the_next_version_is_compared_with_the_serving_version(setup: Setup) -> None:
    setup.offers("v1")
    setup.sync()
    setup.offers("v2", "d2")
    setup.sync()
    assert setup.importer.brought[1] == ("v2", Baseline(setup.writer.layout.version("kcbert", "v1"), chose=True))


def back_to_the_fallback(setup: Setup) -> None:
    """v1 was promoted, and the fallback serves again."""
    setup.offers("v1")
    setup.sync()
    setup.writer.layout.generation.unlink()


def test_a_version_that_an_operator_left_for_the_fallback_is_still_the_measure(setup: Setup) -> None:
    back_to_the_fallback(setup)
    setup.offers("v2", "d2")
    setup.sync()
    assert setup.importer.brought[1] == ("v2", Baseline(setup.writer.layout.version("kcbert", "v1"), chose=True))


def test_after_a_first_version_that_was_bad_the_next_one_is_the_first(setup: Setup) -> None:
    back_to_the_fallback(setup)
    setup.writer.put_in_quarantine(
        Quarantined(model="kcbert", version="v1", digest="d1", reason="it fails", at=datetime.now(UTC)), "monitor"
    )
    setup.offers("v2", "d2")
    setup.sync()
    assert setup.importer.brought[1] == ("v2", Baseline(MODELS / "kcbert", chose=False))


def test_a_damaged_quarantine_entry_keeps_its_version_out(setup: Setup) -> None:
    damaged = setup.writer.layout.quarantine / "kcbert" / "v1.yaml"
    damaged.parent.mkdir(parents=True)
    damaged.touch()
    setup.offers("v1")
    assert setup.sync()[:2] == ("rejected", "v1")
    assert setup.serving is None
    setup.writer.release("kcbert", "v1", "operator")
    assert setup.sync()[:2] == ("promoted", "v1")


@pytest.fixture
def clock(setup: Setup) -> list[float]:
    """The seconds that pass for the postponed imports; in a list of one."""
    now = [0.0]
    setup.reconciler = dataclasses.replace(setup.reconciler, postponed=Postponed(lambda: now[0]))
    return now


def test_an_undecided_import_is_tried_again_when_it_is_due(setup: Setup, clock: list[float]) -> None:
    setup.offers("v1")
    setup.importer.raises = UndecidedError("latency: 1.0 to 4.0 times")
    for attempt, pause in enumerate((10, 20, 40, 80), 1):
        reason = f"latency: 1.0 to 4.0 times. Undecided in attempt {attempt}; the next one begins in {pause} s"
        assert setup.sync() == ("undecided", "v1", reason)
        clock[0] += pause - 1
        assert setup.sync()[:2] == ("undecided", "v1")
        assert len(setup.importer.brought) == attempt
        clock[0] += 1
    setup.importer.raises = None
    assert setup.sync() == ("promoted", "v1", None)
    assert [event.reason for event in setup.events("undecided")] == ["latency: 1.0 to 4.0 times"] * 4
    assert setup.writer.quarantine.all() == []


def test_the_outcome_says_when_an_undecided_import_is_due(setup: Setup, clock: list[float]) -> None:
    setup.offers("v1")
    setup.importer.raises = UndecidedError("it was too late")
    assert setup.reconciler.sync("poll", force=False).retry_seconds == 10
    clock[0] += 4
    assert setup.reconciler.sync("poll", force=False).retry_seconds == 6


def test_an_operator_does_not_wait_for_a_postponed_import(setup: Setup, clock: list[float]) -> None:
    setup.offers("v1")
    setup.importer.raises = UndecidedError("it was too late")
    setup.sync()
    setup.importer.raises = None
    assert setup.sync(by="operator") == ("promoted", "v1", None)


def test_another_version_does_not_wait_for_a_postponed_import(setup: Setup, clock: list[float]) -> None:
    setup.offers("v1")
    setup.importer.raises = UndecidedError("it was too late")
    setup.sync()
    setup.importer.raises = None
    setup.offers("v2", "d2")
    assert setup.sync() == ("promoted", "v2", None)


def test_a_published_version_is_promoted_without_an_import(setup: Setup) -> None:
    for version, digest in (("v1", "d1"), ("v2", "d2")):
        setup.offers(version, digest)
        setup.sync()
    setup.offers("v1", "d1")
    assert setup.sync() == ("promoted", "v1", None)
    assert len(setup.importer.brought) == 2


def test_a_rejected_version_is_quarantined_and_not_imported_again(setup: Setup) -> None:
    setup.offers("v1")
    setup.importer.rejects["d1"] = "its labels are permuted"
    assert [setup.sync() for _ in range(3)] == [("rejected", "v1", "its labels are permuted")] * 3
    assert len(setup.importer.brought) == 1
    assert [(event.reason, event.cause) for event in setup.events("quarantined")] == [("its labels are permuted", "artifact")]
    assert setup.serving is None


def test_a_rejected_version_is_imported_again_when_its_digest_changes(setup: Setup) -> None:
    setup.offers("v1")
    setup.importer.rejects["d1"] = "no"
    setup.sync()
    setup.offers("v1", "d2")
    assert setup.sync() == ("promoted", "v1", None)
    assert setup.writer.quarantine.all() == []


def test_a_rejected_version_is_imported_again_when_an_operator_releases_it(setup: Setup) -> None:
    setup.offers("v1")
    setup.importer.rejects["d1"] = "no"
    setup.sync()
    setup.importer.rejects.clear()
    setup.writer.release("kcbert", "v1", "operator")
    assert setup.sync() == ("promoted", "v1", None)


def signing(setup: Setup, *keys: Ed25519PrivateKey) -> None:
    """Restart the reconciler with these keys; the importer rejects every signature."""
    signatures = Signatures([key.public_key() for key in keys])
    setup.reconciler = dataclasses.replace(setup.reconciler, signatures=signatures)
    setup.importer.raises = SignatureError("unsigned") if keys else None


def signed(setup: Setup, signature: str | None) -> None:
    setup.source.offers["kcbert"] = dataclasses.replace(offer("v1"), signature=signature)


def test_a_replayed_entry_of_a_version_on_disk_changes_nothing(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Ed25519PrivateKey.generate()
    setup.reconciler = dataclasses.replace(setup.reconciler, signatures=Signatures([key.public_key()]))
    file = SignedFile("weights", 5, "0" * 64)
    listed: list[str | None] = ["0" * 64]
    monkeypatch.setattr(setup.source, "files", lambda _: (RemoteFile(file.path, file.size, listed[0]),))

    def names(version: str, digest: str, counter: int, signer: Ed25519PrivateKey = key) -> None:
        """The registry names this version, signed with this counter."""
        signature = sign(signer, "kcbert", version, [file], Validity(counter, expires=10**12))
        setup.source.offers["kcbert"] = dataclasses.replace(offer(version, digest), signature=signature)

    for version, digest, counter in (("v1", "d1", 1), ("v2", "d2", 2)):
        setup.offers(version, digest)
        names(version, digest, counter)
        assert setup.sync()[0] == "promoted"
        SignatureCounters(setup.writer.layout.signatures).record(offer(version, digest), counter)  # as the importer does
    names("v1", "d1", 1)
    assert setup.sync(force=True)[:2] == ("rejected", "v1")
    names("v1", "d1", 3, Ed25519PrivateKey.generate())  # a counter that is not signed by the publisher
    assert setup.sync()[:2] == ("rejected", "v1")
    listed[0] = None  # the registry states no digests, so what is signed cannot be compared
    names("v1", "d1", 3)
    assert setup.sync()[:2] == ("rejected", "v1")
    assert (setup.serving, setup.writer.quarantine.all()) == ("v2", [])  # nobody has good versions quarantined by a replay
    listed[0] = "0" * 64
    assert setup.sync()[:2] == ("promoted", "v1")  # the publisher signed it again


def test_a_version_rejected_for_its_signature_is_imported_again_with_another_signature(setup: Setup) -> None:
    signing(setup, Ed25519PrivateKey.generate())
    setup.offers("v1")
    for number, signature in enumerate((None, "c2ln", "another"), 1):
        signed(setup, signature)
        assert [setup.sync() for _ in range(3)] == [("rejected", "v1", "unsigned")] * 3
        assert len(setup.importer.brought) == number
    signed(setup, "right")
    setup.importer.raises = None
    assert setup.sync() == ("promoted", "v1", None)
    assert setup.writer.quarantine.all() == []
    assert [len(setup.events(kind)) for kind in ("quarantined", "released")] == [3, 3]


@pytest.mark.parametrize("more", [0, 1])
def test_a_version_rejected_for_its_signature_is_imported_again_with_other_keys(setup: Setup, more: int) -> None:
    key = Ed25519PrivateKey.generate()
    signing(setup, key)
    setup.offers("v1")
    setup.sync()
    signing(setup, key)  # a restart
    setup.sync()
    assert len(setup.importer.brought) == 1
    signing(setup, *[key, Ed25519PrivateKey.generate()][: 2 * more])
    setup.importer.raises = None
    assert setup.sync() == ("promoted", "v1", None)


def test_another_signature_does_not_lift_a_quarantine_for_another_reason(setup: Setup) -> None:
    setup.offers("v1")
    setup.importer.rejects["d1"] = "its labels are permuted"
    setup.sync()
    signed(setup, "another")
    assert setup.sync() == ("rejected", "v1", "its labels are permuted")
    assert len(setup.importer.brought) == 1


def test_force_ignores_failed_gates_and_is_recorded(setup: Setup) -> None:
    setup.offers("v1")
    setup.importer.rejects["d1"] = "it is slow"
    setup.sync()
    assert setup.sync(by="operator", force=True) == ("promoted", "v1", None)
    [published] = setup.events("published")
    assert (published.forced, published.reason, published.by) == (True, "it is slow", "operator")


def test_another_version_of_the_same_name_is_renamed(setup: Setup) -> None:
    setup.offers("v1", "d1")
    setup.sync()
    setup.offers("v1", "abcdefghijk", stored="v1-abcdefgh")
    assert setup.sync() == ("promoted", "v1-abcdefgh", None)
    assert setup.sync() == ("unchanged", "v1-abcdefgh", None)


def test_a_version_with_the_name_of_the_fallback_is_renamed(setup: Setup) -> None:
    setup.offers(BUNDLED_VERSION, "abcdefghijk", stored=f"{BUNDLED_VERSION}-abcdefgh")
    assert setup.sync() == ("promoted", f"{BUNDLED_VERSION}-abcdefgh", None)


def test_a_pinned_model_is_not_changed(setup: Setup) -> None:
    setup.offers("v1")
    setup.sync()
    setup.writer.change(lambda old: old.pin("kcbert", pinned=True))
    setup.offers("v2", "d2")
    assert setup.sync() == ("pinned", "v2", "an operator pinned kcbert to v1")
    assert setup.serving == "v1"


def test_a_model_pinned_to_its_fallback_is_not_changed(setup: Setup) -> None:
    setup.writer.change(lambda old: old.pin("kcbert", pinned=True))
    setup.offers("v1")
    assert setup.sync() == ("pinned", "v1", "an operator pinned kcbert to the fallback version")
    assert setup.serving is None


def roll_back(setup: Setup) -> None:
    """Roll back from v2 to v1, as an operator does."""
    for version, digest in (("v1", "d1"), ("v2", "d2")):
        setup.offers(version, digest)
        setup.sync()
    Commands(setup.writer).rollback("kcbert")


def test_a_version_is_held_after_a_rollback(setup: Setup) -> None:
    roll_back(setup)
    reason = "v2 is held, because an operator left it; `unpin` or a newer version lifts the hold"
    assert [setup.sync() for _ in range(10)] == [("held", "v2", reason)] * 10
    assert setup.sync(by="operator", force=True)[0] == "held"
    assert setup.serving == "v1"


def test_a_newer_version_is_promoted_after_a_rollback_and_lifts_the_hold(setup: Setup) -> None:
    roll_back(setup)
    setup.offers("v3", "d3")
    assert setup.sync() == ("promoted", "v3", None)
    generation = setup.writer.generations().of("kcbert")
    assert generation.previous
    assert (generation.previous.version, generation.held) == ("v1", ())
    setup.offers("v2", "d2")
    assert setup.sync() == ("promoted", "v2", None)


def test_another_version_of_a_held_name_is_promoted(setup: Setup) -> None:
    roll_back(setup)
    setup.offers("v2", "abcdefghijk", stored="v2-abcdefgh")
    assert setup.sync() == ("promoted", "v2-abcdefgh", None)


def test_after_the_monitor_went_back_to_the_fallback_it_is_the_baseline(setup: Setup) -> None:
    setup.offers("v1")
    setup.sync()
    bad = Quarantined(model="kcbert", version="v1", digest="d1", reason="it fails", at=datetime.now(UTC))
    setup.writer.put_in_quarantine(bad, "monitor")
    promote(setup.writer, "kcbert", FALLBACK, "bundled", "monitor")
    assert setup.sync() == ("rejected", "v1", "it fails")
    setup.offers("v2", "d2")
    assert setup.sync() == ("promoted", "v2", None)
    assert setup.importer.brought[-1] == ("v2", Baseline(MODELS / "kcbert", chose=False))


def test_a_newer_version_is_promoted_after_a_rollback_to_the_fallback(setup: Setup) -> None:
    setup.offers("v1")
    setup.sync()
    Commands(setup.writer).rollback("kcbert")
    assert (setup.serving, setup.sync()[0]) == (FALLBACK, "held")
    setup.offers("v2", "d2")
    assert setup.sync() == ("promoted", "v2", None)
    generation = setup.writer.generations().of("kcbert")
    assert generation.previous
    assert (generation.generation, generation.previous.version, generation.held) == (3, FALLBACK, ())


def test_a_rollback_during_the_last_moment_of_a_sync_is_not_forgotten(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.offers("v1")
    setup.sync()
    record = setup.writer.record_activation

    def rolled_back(*args: Any, **details: Any) -> None:
        monkeypatch.undo()
        record(*args, **details)
        Commands(setup.writer).rollback("kcbert")

    monkeypatch.setattr(setup.writer, "record_activation", rolled_back)
    setup.offers("v2", "d2")
    setup.sync()
    assert (setup.serving, setup.writer.generations().of("kcbert").held) == ("v1", ("v2",))
    assert setup.sync()[0] == "held"


def cancelling(setup: Setup, monkeypatch: pytest.MonkeyPatch, then: Exception | None = None) -> None:
    """Have an operator cancel the next import while it runs, which ends with the error `then`."""
    bring = setup.importer.bring

    def cancelled(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        commands = Commands(setup.writer, cancellations={"kcbert": setup.cancellation})
        setup.operator = threading.Thread(target=commands.cancel, args=["kcbert"])  # it waits for the end of the import
        setup.operator.start()
        wait_until(setup.cancellation.stop.is_set)
        setup.importer.raises = then
        with bring(*args, **options) as imported:
            return nullcontext(imported)

    monkeypatch.setattr(setup.importer, "bring", cancelled)


CANCELLED = ("cancelled", "v1", "an operator cancelled the import of v1; `sync kcbert` imports it")


@pytest.mark.parametrize(
    "then",
    [None, SyncCancelledError(), SourceError("the download was cancelled"), RejectedError("it is slow")],
    ids=["it was done", "it stopped", "it stopped fetching", "it was rejected"],
)
def test_a_cancelled_import_is_not_repeated(setup: Setup, monkeypatch: pytest.MonkeyPatch, then: Exception | None) -> None:
    setup.offers("v1")
    cancelling(setup, monkeypatch, then)
    assert setup.sync() == CANCELLED
    setup.importer.raises = None
    assert [setup.sync(by=by) for by in ("poll", "start", "webhook", "sqs")] == [CANCELLED] * 4
    assert (setup.serving, setup.writer.quarantine.all(), len(setup.importer.brought)) == (None, [], 1)
    assert setup.operator
    setup.operator.join()
    assert [(event.version, event.by) for event in setup.events("cancelled")] == [("v1", "operator")]


def test_an_operator_may_import_a_cancelled_version_after_all(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.offers("v1")
    cancelling(setup, monkeypatch, SyncCancelledError())
    setup.sync()
    setup.importer.raises = None
    assert setup.sync(by="operator") == ("promoted", "v1", None)
    assert setup.writer.generations().of("kcbert").cancelled is None


def test_other_files_of_a_cancelled_version_are_imported(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.offers("v1")
    cancelling(setup, monkeypatch, SyncCancelledError())
    setup.sync()
    setup.importer.raises = None
    setup.offers("v1", "d2")
    assert setup.sync() == ("promoted", "v1", None)
    assert setup.writer.generations().of("kcbert").cancelled is None


def test_an_aborted_promotion_is_held_and_does_not_fail(setup: Setup) -> None:
    def abort(_: Target) -> None:
        Commands(setup.writer).abort("kcbert")

    setup.reconciler = dataclasses.replace(setup.reconciler, before_activation=abort)
    setup.offers("v1")
    assert [setup.sync()[0] for _ in range(2)] == ["held", "held"]
    assert (setup.serving, setup.writer.generations().of("kcbert").held) == (None, ("v1",))


def test_a_paused_version_that_is_rejected_is_no_longer_paused(setup: Setup) -> None:
    def fail(target: Target) -> None:
        setup.writer.change(lambda old: old.pause("kcbert", target.version))
        raise FailsLiveError("it fails", "errors")

    setup.reconciler = dataclasses.replace(setup.reconciler, before_activation=fail)
    setup.offers("v1")
    assert setup.sync()[0] == "rejected"
    assert setup.writer.generations().of("kcbert").paused is None


def test_unpin_lifts_the_hold(setup: Setup) -> None:
    roll_back(setup)
    Commands(setup.writer).unpin("kcbert")
    assert setup.sync() == ("promoted", "v2", None)


def test_a_pin_during_an_import_prevents_the_promotion(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.offers("v1")
    setup.sync()
    setup.offers("v2", "d2")
    bring = setup.importer.bring

    def pin_and_bring(*args: Any, **options: Any) -> Any:
        Commands(setup.writer).pin("kcbert")
        return bring(*args, **options)

    monkeypatch.setattr(setup.importer, "bring", pin_and_bring)
    assert setup.sync()[0] == "pinned"
    assert setup.serving == "v1"
    assert "v2" in setup.writer.layout.versions("kcbert")


def test_an_unreachable_registry_changes_nothing(setup: Setup) -> None:
    setup.offers("v1")
    setup.sync()
    setup.source.offers["kcbert"] = SourceError("it cannot be reached")
    assert setup.sync() == ("unreachable", None, "it cannot be reached")
    assert setup.serving == "v1"


def test_a_registry_without_a_version_changes_nothing(setup: Setup) -> None:
    assert setup.sync() == ("unchanged", None, "the registry names no version")


def test_a_full_disk_does_not_reject_the_version(setup: Setup) -> None:
    setup.offers("v1")
    setup.importer.raises = OSError(errno.ENOSPC, "No space left on device")
    assert setup.sync()[0] == "failed"
    setup.importer.raises = None
    assert setup.sync() == ("promoted", "v1", None)


def test_an_interrupted_download_does_not_reject_the_version(setup: Setup) -> None:
    setup.offers("v1")
    setup.importer.raises = SourceError("cut off")
    assert setup.sync() == ("unreachable", None, "cut off")
    assert setup.writer.quarantine.all() == []


def test_a_name_that_is_too_long_is_rejected(setup: Setup) -> None:
    setup.source.offers["kcbert"] = offer("v" * 100)
    status, version, reason = setup.sync()
    assert (status, version) == ("rejected", None)
    assert reason is not None
    assert "too long" in reason


def test_a_cancelled_sync_has_no_outcome(setup: Setup) -> None:
    setup.offers("v1")
    setup.importer.raises = SyncCancelledError()
    with pytest.raises(SyncCancelledError):
        setup.sync()


def test_a_version_that_fails_on_live_traffic_is_quarantined(setup: Setup) -> None:
    def fail(target: Target) -> None:
        raise FailsLiveError(f"{target.version} fails", "latency")

    setup.reconciler = dataclasses.replace(setup.reconciler, before_activation=fail)
    setup.offers("v1")
    assert [setup.sync() for _ in range(2)] == [("rejected", "v1", "v1 fails")] * 2
    assert [event.kind for event in setup.writer.history.read("kcbert")] == ["published", "abandoned", "quarantined"]
    assert [event.cause for event in setup.events("quarantined")] == ["live_latency"]
    assert setup.serving is None


def test_a_version_that_a_worker_cannot_load_is_quarantined(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> int:
        raise CannotLoadError("a worker cannot load kcbert:v1: damaged")

    monkeypatch.setattr("model_sync.reconciler.promote", fail)
    setup.offers("v1")
    assert setup.sync() == ("rejected", "v1", "a worker cannot load kcbert:v1: damaged")
    assert setup.sync() == ("rejected", "v1", "a worker cannot load kcbert:v1: damaged")
    assert len(setup.importer.brought) == 1


def sample(setup: Setup, name: str, **labels: str) -> float | None:
    return setup.report.metrics.registry.get_sample_value(name, {"model": "kcbert", **labels})


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        (None, "promoted"),
        (RejectedError("no"), "rejected"),
        (ImportEnvironmentError("the disk is full"), "environment_error"),
        (OSError(errno.ENOSPC, "full"), "environment_error"),
        (SourceError("it is down"), "environment_error"),
        (crashed(), "crashed"),
        (SyncCancelledError(), "cancelled"),
        (ImportCancelledError(), "cancelled"),
        (UndecidedError("it was late"), "undecided"),
    ],
)
def test_an_import_is_counted_by_its_outcome(setup: Setup, raised: Exception | None, outcome: str) -> None:
    setup.offers("v1")
    setup.importer.raises = raised
    with contextlib.suppress(SyncCancelledError):
        setup.sync()
    counts = {name: sample(setup, "bunriwiki_imports_total", outcome=name) for name in OUTCOMES}
    assert counts == {name: float(name == outcome) for name in OUTCOMES}


def test_a_sync_without_anything_new_is_no_import(setup: Setup) -> None:
    setup.offers("v1")
    for _ in range(2):
        setup.sync()
    assert sum(sample(setup, "bunriwiki_imports_total", outcome=name) or 0 for name in OUTCOMES) == 1


def test_an_import_that_a_pin_overtakes_is_cancelled(setup: Setup) -> None:
    setup.offers("v1")
    publish = setup.writer.publish

    def pinned_meanwhile(*arguments: Any, **options: Any) -> Any:
        setup.writer.change(lambda old: old.pin("kcbert", pinned=True))
        return publish(*arguments, **options)

    setup.writer.publish = pinned_meanwhile  # type: ignore[method-assign]
    assert setup.sync()[0] == "pinned"
    assert sample(setup, "bunriwiki_imports_total", outcome="cancelled") == 1


def test_the_phases_of_a_promotion_are_timed(setup: Setup) -> None:
    replaced: list[str] = []
    setup.reconciler = dataclasses.replace(setup.reconciler, after_activation=replaced.append)
    for number in (1, 2):
        setup.offers(f"v{number}", f"d{number}")
        setup.sync()
    for phase in ("publish", "prepare", "activate"):
        assert sample(setup, "bunriwiki_import_phase_duration_seconds_count", phase=phase) == 2
    assert replaced == [Manifest.read(MODELS / "kcbert").version, "v1"]


def test_the_metrics_say_whether_the_registry_can_be_read(setup: Setup) -> None:
    assert sample(setup, "bunriwiki_registry_up", registry=URI) is None
    setup.sync()  # it offers nothing, which is an answer
    seen = sample(setup, "bunriwiki_registry_last_seen_timestamp_seconds", registry=URI)
    assert sample(setup, "bunriwiki_registry_up", registry=URI) == 1
    assert seen
    setup.source.offers["kcbert"] = SourceError("it is down")
    setup.sync()
    assert sample(setup, "bunriwiki_registry_up", registry=URI) == 0
    assert sample(setup, "bunriwiki_registry_last_seen_timestamp_seconds", registry=URI) == seen
